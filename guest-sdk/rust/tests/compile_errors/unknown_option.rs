//! Options that do not exist.

use cerebelum::prelude::*;

#[step(retries = 5)]
async fn a(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(retry(attempts = 5))]
async fn b(ctx: Context) -> Result<()> {
    Ok(())
}

#[workflow(timeout = "1h")]
async fn c(ctx: Context) -> Result<()> {
    Ok(())
}

#[workflow(retry(max_attempts = 2))]
async fn d(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(retry = 5)]
async fn e(ctx: Context) -> Result<()> {
    Ok(())
}

fn main() {}
