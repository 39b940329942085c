//! A generic step.

use cerebelum::prelude::*;

#[step]
async fn greet<T>(ctx: Context, name: T) -> Result<T> {
    Ok(name)
}

fn main() {}
