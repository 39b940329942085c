//! Functions that return no Result.

use cerebelum::prelude::*;

#[step]
async fn a(_ctx: Context) {}

#[step]
async fn b(_ctx: Context) -> u32 {
    7
}

fn main() {}
