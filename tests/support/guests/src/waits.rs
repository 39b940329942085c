//! Sleeps, polls and retries.

use std::cell::Cell;

use cerebelum::prelude::*;

/// Where and how long.
#[data]
pub struct Nap {
    pub base_url: String,
    /// How long each sleep takes.
    pub sleep_ms: u64,
    /// How many sleeps, with a post after each.
    pub naps: u32,
}

/// Posts, sleeps, posts …, all inside one step; a local counts on.
#[step(timeout = "10s")]
pub async fn post_and_nap(ctx: Context, nap: Nap) -> Result<u32> {
    let mut count = 0;
    for number in 0..=nap.naps {
        if number > 0 {
            ctx.sleep(millis(nap.sleep_ms)).await?;
        }
        http::post(format!("{}/notes/{number}", nap.base_url)).json(&number).send(&ctx).await?.error_for_status()?;
        count += 1;
    }
    Ok(count)
}

/// Sleeps inside its only, and so its last, step.
#[workflow]
pub async fn naps_in_a_step(ctx: Context, nap: Nap) -> Result<u32> {
    post_and_nap(&ctx, nap).await
}

/// Sleeps between steps.
#[workflow]
pub async fn naps(ctx: Context, nap: Nap) -> Result<u32> {
    let mut count = 0;
    for number in 0..nap.naps {
        crate::plain::post(
            &ctx,
            crate::plain::Post { base_url: nap.base_url.clone(), path: format!("notes/{number}") },
        )
        .await?;
        count += 1;
        ctx.sleep(millis(nap.sleep_ms)).await?;
    }
    Ok(count)
}

/// Only sleeps.
#[workflow]
pub async fn sleeper(ctx: Context, sleep_ms: u64) -> Result<String> {
    ctx.sleep(millis(sleep_ms)).await?;
    Ok("awake".to_owned())
}

/// How long to sleep, and something that only takes room.
#[data]
pub struct Padded {
    pub sleep_ms: u64,
    pub padding: String,
}

/// Sleeps once.
#[workflow]
pub async fn padded_sleeper(ctx: Context, input: Padded) -> Result<()> {
    ctx.sleep(millis(input.sleep_ms)).await
}

/// Sleeps as a program does that knows nothing of us.
#[workflow]
pub async fn std_sleeper(_ctx: Context, sleep_ms: u64) -> Result<String> {
    std::thread::sleep(std::time::Duration::from_millis(sleep_ms));
    Ok("awake".to_owned())
}

/// What to look for, how often.
#[data]
pub struct Lookout {
    pub base_url: String,
    /// Ready at which check.
    pub ready_at: u64,
    pub every_ms: u64,
    pub attempts: u32,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Steps before the poll, to make the history long.
    #[serde(default)]
    pub steps_before: u32,
}

/// What a check sees.
#[data]
pub struct Asked {
    pub asked: u64,
}

/// Asks how often it was asked.
#[step]
pub async fn look(ctx: Context, at: Lookout) -> Result<Check<u64>> {
    let seen: Asked = http::get(format!("{}/notes/looks", at.base_url)).send(&ctx).await?.error_for_status()?.json()?;
    if seen.asked >= at.ready_at { Ok(Check::Ready(seen.asked)) } else { Check::not_yet_but(&seen.asked) }
}

/// A check without effects: never ready.
#[step]
pub async fn never(_ctx: Context, _at: Lookout) -> Result<Check<u64>> {
    Ok(Check::not_yet())
}

/// A host-driven poll.
#[workflow]
pub async fn polling(ctx: Context, at: Lookout) -> Result<u64> {
    for number in 0..at.steps_before {
        crate::plain::increment(&ctx, number).await?;
    }
    let poll = ctx.poll(look, at.clone()).every(millis(at.every_ms)).attempts(at.attempts);
    match at.timeout_ms {
        Some(timeout) => poll.timeout(millis(timeout)).await,
        None => poll.await,
    }
}

/// A host-driven poll that is never ready.
#[workflow]
pub async fn polling_in_vain(ctx: Context, at: Lookout) -> Result<u64> {
    for number in 0..at.steps_before {
        crate::plain::increment(&ctx, number).await?;
    }
    ctx.poll(never, at.clone()).every(millis(at.every_ms)).attempts(at.attempts).await
}

/// A poll in place, inside a step, with a local that counts.
#[step(timeout = "10s", retry(max_attempts = 1))]
pub async fn look_in_place(ctx: Context, at: Lookout) -> Result<(u64, u64)> {
    let checks = Cell::new(0);
    let seen = ctx
        .poll_until(async |_attempt| {
            checks.set(checks.get() + 1);
            let seen: Asked =
                http::get(format!("{}/notes/looks", at.base_url)).send(&ctx).await?.error_for_status()?.json()?;
            if seen.asked >= at.ready_at { Ok(Check::Ready(seen.asked)) } else { Check::not_yet_but(&seen.asked) }
        })
        .every(millis(at.every_ms))
        .attempts(at.attempts)
        .await?;
    Ok((seen, checks.get()))
}

/// The same, as a workflow.
#[workflow]
pub async fn polling_in_place(ctx: Context, at: Lookout) -> Result<(u64, u64)> {
    look_in_place(&ctx, at).await
}

/// What fails how often.
#[data]
pub struct Flaky {
    pub base_url: String,
    pub failures: u32,
    pub delay_ms: u64,
}

/// Tries in place, inside a step.
#[step(timeout = "10s", retry(max_attempts = 1))]
pub async fn try_in_place(ctx: Context, what: Flaky) -> Result<u32> {
    let tries = Cell::new(0);
    ctx.retry(async |_attempt| {
        tries.set(tries.get() + 1);
        http::post(format!("{}/flaky/x?fail={}", what.base_url, what.failures)).send(&ctx).await?.error_for_status()?;
        Ok(())
    })
    .attempts(10)
    .delay(millis(what.delay_ms))
    .await?;
    Ok(tries.get())
}

/// The same, as a workflow.
#[workflow]
pub async fn retrying_in_place(ctx: Context, what: Flaky) -> Result<u32> {
    try_in_place(&ctx, what).await
}

/// Fails as often as it is told, retried by its policy.
#[workflow]
pub async fn retrying(ctx: Context, what: Flaky) -> Result<u16> {
    let policy =
        RetryPolicy { max_attempts: 10, delay_ms: what.delay_ms, backoff: 1.0, jitter: 0.0, ..RetryPolicy::DEFAULT };
    let to = crate::plain::Post { base_url: what.base_url, path: format!("flaky/x?fail={}", what.failures) };
    crate::plain::post(&ctx, to).retry(policy).await
}

/// A race: a slow sleep inside a step against a fast one.
#[workflow]
pub async fn race(ctx: Context, nap: Nap) -> Result<String> {
    let slow = Nap { sleep_ms: nap.sleep_ms * 100, naps: 1, ..nap.clone() };
    let mut slow = post_and_nap(&ctx, slow);
    let mut timeout = ctx.sleep(millis(nap.sleep_ms));
    let winner = select! {
        _ = slow => "slow",
        _ = timeout => "timeout",
    };
    drop(slow);
    ctx.sleep(millis(nap.sleep_ms)).await?;
    Ok(winner.to_owned())
}
