//! A poll of a step that is not a check.

use cerebelum::prelude::*;

#[step]
async fn look(_ctx: Context, at: String) -> Result<String> {
    Ok(at)
}

#[workflow]
async fn waits(ctx: Context) -> Result<()> {
    ctx.poll(look, "there".to_owned()).await?;
    Ok(())
}

fn main() {}
