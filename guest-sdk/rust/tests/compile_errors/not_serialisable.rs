//! An input and an output without a JSON form.

use cerebelum::prelude::*;

struct Order {
    size: u32,
}

#[step]
async fn a(_ctx: Context, order: Order) -> Result<u32> {
    Ok(order.size)
}

#[step]
async fn b(_ctx: Context, size: u32) -> Result<Order> {
    Ok(Order { size })
}

fn main() {}
