//! A step that borrows its context.

use cerebelum::prelude::*;

#[step]
async fn greet(ctx: &Context, name: String) -> Result<String> {
    Ok(name)
}

fn main() {}
