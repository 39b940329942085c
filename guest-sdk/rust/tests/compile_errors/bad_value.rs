//! Options with invalid values.

use cerebelum::prelude::*;

#[step(timeout = "30 seconds")]
async fn a(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(timeout = 30)]
async fn b(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(retry(max_attempts = 0))]
async fn c(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(retry(backoff = 0.5))]
async fn d(ctx: Context) -> Result<()> {
    Ok(())
}

#[step(retry(jitter = 20))]
async fn e(ctx: Context) -> Result<()> {
    Ok(())
}

fn main() {}
