//! A step and a workflow without a context.

use cerebelum::prelude::*;

#[step]
async fn greet(name: String) -> Result<String> {
    Ok(name)
}

#[workflow]
async fn hello() -> Result<()> {
    Ok(())
}

fn main() {}
