//! Workflows that compensate, clean up, and start others: work that must not be repeated or cut short.

use cerebelum::prelude::*;

use crate::people::pass_gate;
use crate::plain::{Post, Posts, post, posts};

fn note(base_url: &str, path: &str) -> Post {
    Post { base_url: base_url.to_owned(), path: format!("notes/{path}") }
}

/// Charges and ships; gives the money back when shipping fails.
#[workflow]
pub async fn saga(ctx: Context, base_url: String) -> Result<String> {
    post(&ctx, note(&base_url, "charge")).await?;
    if let Err(failed) = pass_gate(&ctx, base_url.clone()).await {
        post(&ctx, note(&base_url, "refund")).await?;
        return Err(failed);
    }
    Ok("shipped".to_owned())
}

/// The same in one step.
#[step(retry(max_attempts = 1))]
pub async fn fulfil(ctx: Context, base_url: String) -> Result<String> {
    post(&ctx, note(&base_url, "charge")).await?;
    if let Err(failed) = pass_gate(&ctx, base_url.clone()).await {
        post(&ctx, note(&base_url, "refund")).await?;
        return Err(failed);
    }
    Ok("shipped".to_owned())
}

/// A saga inside a step.
#[workflow]
pub async fn saga_in_a_step(ctx: Context, base_url: String) -> Result<String> {
    fulfil(&ctx, base_url).await
}

async fn send(ctx: &Context, url: String) -> Result<()> {
    http::post(url).send(ctx).await?.error_for_status()?;
    Ok(())
}

/// The same in one step that makes its requests itself.
#[step(retry(max_attempts = 1))]
pub async fn fulfil_by_requests(ctx: Context, base_url: String) -> Result<String> {
    send(&ctx, format!("{base_url}/notes/charge")).await?;
    if let Err(failed) = send(&ctx, format!("{base_url}/switch/one")).await {
        send(&ctx, format!("{base_url}/notes/refund")).await?;
        return Err(failed);
    }
    Ok("shipped".to_owned())
}

/// A saga of requests inside a step.
#[workflow]
pub async fn saga_of_requests(ctx: Context, base_url: String) -> Result<String> {
    fulfil_by_requests(&ctx, base_url).await
}

/// Sleeps for a day; once it is cancelled, its clean-up waits for a signal.
#[workflow]
pub async fn cleaning_up_patiently(ctx: Context, base_url: String) -> Result<()> {
    let slept = ctx.sleep(days(1)).await;
    ctx.signal::<Json>("go on").await?;
    post(&ctx, note(&base_url, "clean-up")).await?;
    slept
}

/// The same, with little time for it.
#[workflow(cancel_grace = "1s")]
pub async fn cleaning_up_in_time(ctx: Context, base_url: String) -> Result<()> {
    let slept = ctx.sleep(days(1)).await;
    ctx.signal::<Json>("go on").await?;
    post(&ctx, note(&base_url, "clean-up")).await?;
    slept
}

/// Children of each kind, and a child of a step.
#[step]
pub async fn delegate(ctx: Context, input: Posts) -> Result<usize> {
    ctx.run_workflow(posts, input).await
}

/// Waits for a signal, then lets children post: awaited, of a step, and only started.
#[workflow]
pub async fn delegating(ctx: Context, base_url: String) -> Result<usize> {
    ctx.signal::<Json>("go on").await?;
    let paths = |of: &str| Posts {
        base_url: base_url.clone(),
        paths: (1..=2).map(|number| format!("notes/{of}-{number}")).collect(),
    };
    let (awaited, of_step) = join!(ctx.run_workflow(posts, paths("awaited")), delegate(&ctx, paths("of-step"))).await?;
    ctx.start_workflow(posts, paths("started")).await?;
    Ok(awaited + of_step)
}
