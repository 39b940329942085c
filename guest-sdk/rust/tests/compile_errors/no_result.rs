//! Functions that do not return a Result.

use cerebelum::prelude::*;

#[step]
async fn a(_ctx: Context) {}

#[step]
async fn b(_ctx: Context) -> u32 {
    7
}

fn main() {}
