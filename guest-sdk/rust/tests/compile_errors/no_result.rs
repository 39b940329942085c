//! Functions that return no Result.

use cerebelum::prelude::*;

#[step]
async fn a(ctx: Context) {}

#[step]
async fn b(ctx: Context) -> u32 {
    7
}

fn main() {}
