//! A durable call that is not awaited.

#![deny(unused_must_use)]

use cerebelum::prelude::*;

#[step]
async fn greet(_ctx: Context, name: String) -> Result<String> {
    Ok(name)
}

#[workflow]
async fn hello(ctx: Context) -> Result<()> {
    greet(&ctx, "Ada".to_owned());
    ctx.sleep(days(1));
    ctx.sleep(days(1)).await;
    Ok(())
}

fn main() {}
