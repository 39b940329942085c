//! Guests that request, report and keep as much as they can: everything that an execution may hold, up to its limit.

use cerebelum::prelude::*;

/// What to do, how often, and how large each of it is.
#[data]
pub struct Load {
    pub what: String,
    pub count: u32,
    #[serde(default)]
    pub bytes: usize,
}

impl Load {
    fn filler(&self) -> String {
        "x".repeat(self.bytes)
    }
}

/// Takes something and gives nothing back.
#[step(retry(max_attempts = 1))]
pub async fn swallow(_ctx: Context, value: String) -> Result<usize> {
    Ok(value.len())
}

/// Yields something large.
#[step(retry(max_attempts = 1))]
pub async fn produce(_ctx: Context, bytes: usize) -> Result<String> {
    Ok("x".repeat(bytes))
}

/// Logs, and fails at once, again and again.
#[step(retry(max_attempts = 1000000, delay = "0s", backoff = 1.0, jitter = 0.0))]
pub async fn shout(ctx: Context, bytes: usize) -> Result<()> {
    for _ in 0..200 {
        ctx.info("x".repeat(bytes));
    }
    bail!("no", "{}", "x".repeat(bytes))
}

/// A check that is never ready, and says much.
#[step(retry(max_attempts = 1))]
pub async fn never_ready(_ctx: Context, bytes: usize) -> Result<Check<u64>> {
    Check::not_yet_but(&"x".repeat(bytes))
}

/// Calls itself.
#[step(retry(max_attempts = 1))]
pub async fn dig(ctx: Context, depth: u32) -> Result<u32> {
    if depth == 0 { Ok(0) } else { Ok(dig(&ctx, depth - 1).await? + 1) }
}

/// Starts itself as a child.
#[workflow]
pub async fn descend(ctx: Context, depth: u32) -> Result<u32> {
    if depth == 0 { Ok(0) } else { Ok(ctx.run_workflow(descend, depth - 1).await? + 1) }
}

/// Takes something, and ends at once.
#[workflow]
pub async fn swallowing(_ctx: Context, _value: String) -> Result<()> {
    Ok(())
}

/// Says much about itself.
#[step(retry(max_attempts = 1))]
pub async fn report(ctx: Context, load: Load) -> Result<()> {
    for number in 0..load.count {
        ctx.progress(u8::try_from(number % 100).unwrap_or(0), "x".repeat(load.bytes));
        if number % 100 == 99 {
            ctx.sleep(millis(1)).await?;
        }
    }
    Ok(())
}

/// Makes a handle that is never given back.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the standard library gives each handle back")]
fn keep_a_handle() {
    #[link(wasm_import_module = "wasi:clocks/monotonic-clock@0.2.6")]
    unsafe extern "C" {
        #[link_name = "subscribe-duration"]
        fn subscribe_duration(ns: u64) -> i32;
    }
    // SAFETY: the signature is that of the interface, and a handle that is not dropped harms only this guest.
    unsafe { subscribe_duration(u64::MAX >> 1) };
}
#[cfg(not(target_arch = "wasm32"))]
fn keep_a_handle() {}

/// Does one of these things, all of it at once where that is possible.
#[workflow]
pub async fn load(ctx: Context, load: Load) -> Result<u32> {
    let Load { count, bytes, .. } = load;
    let all = 0..count;
    match load.what.as_str() {
        "steps" => drop(join_all(all.map(|_| swallow(&ctx, load.filler()))).await?),
        "outputs" => drop(join_all(all.map(|_| produce(&ctx, bytes))).await?),
        "outputs-in-turn" => {
            for _ in all {
                produce(&ctx, bytes).await?;
            }
        }
        "polls" => {
            let poll = |_| ctx.poll(never_ready, bytes).every(millis(0)).attempts(20);
            drop(join_all(all.map(poll)).await?);
        }
        "questions" => drop(join_all(all.map(|_| ctx.approval("?").data(&load.filler()))).await?),
        "children" => drop(join_all(all.map(|_| ctx.run_workflow(swallowing, load.filler()))).await?),
        "starts" => drop(join_all(all.map(|_| ctx.start_workflow(swallowing, load.filler()))).await?),
        // Each of these starts as many.
        "selves" => drop(join_all(all.map(|_| ctx.start_workflow(self::load, load.clone()))).await?),
        "sleeps" => drop(join_all(all.map(|_| ctx.sleep(millis(1_000)))).await?),
        "attributes" => {
            for number in all {
                ctx.set_attribute(format!("n{number}"), "x".repeat(bytes));
                ctx.sleep(millis(1)).await?;
            }
        }
        "attribute-name" => {
            ctx.set_attribute("x".repeat(bytes), 1);
            ctx.sleep(millis(1)).await?;
        }
        "shout" => shout(&ctx, bytes).await?,
        "dig" => return dig(&ctx, count).await,
        "report" => report(&ctx, load).await?,
        "kind" => return Err(Error::new("x".repeat(bytes), "y".repeat(bytes)).with_details("z".repeat(bytes))),
        "chain" if count > 0 => {
            let next = Load { count: count - 1, ..load };
            return ctx.continue_as_new(next).await;
        }
        "chain" => return Ok(ctx.run()),
        "handles" => all.for_each(|_| keep_a_handle()),
        "hold" => {
            drop(ctx.signal::<Json>("never").await?);
        }
        other => bail!("unknown", "no such load: {other}"),
    }
    Ok(count)
}
