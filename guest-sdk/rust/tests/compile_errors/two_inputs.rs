//! A step with two inputs.

use cerebelum::prelude::*;

#[step]
async fn add(ctx: Context, a: u32, b: u32) -> Result<u32> {
    Ok(a + b)
}

fn main() {}
