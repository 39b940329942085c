//! A step that is not an async function.

use cerebelum::prelude::*;

#[step]
fn greet(ctx: Context, name: String) -> Result<String> {
    Ok(name)
}

fn main() {}
