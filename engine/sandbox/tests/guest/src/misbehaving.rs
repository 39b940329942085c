//! Forbidden behaviour of guests, which the sandbox has to handle.

use crate::cerebelum::guest::types::StepCall;
use crate::cerebelum::guest::{context, durable};
use crate::{Output, options, step, text};

pub async fn workflow(name: &str, input: &str) -> Output {
    match name {
        "deadlock" => futures::future::pending().await,
        "loop" => spin(),
        "memory" => memory(input).await,
        "stack" => Ok(recurse(0).to_string()),
        "stack-edge" => Ok(recurse_and_call(0).to_string()),
        "panic" => panic!("no such server\nreally"),
        "exit" => std::process::exit(3),
        "invalid" => Ok(input.repeat(2)),
        "log-flood" => Ok(log_flood()),
        "names" => step(&"n".repeat(300), 1).await,
        other => panic!("no workflow {other}"),
    }
}

pub fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

/// Allocates memory in small pieces; with input `after` only after a call.
async fn memory(input: &str) -> Output {
    if input.contains("after") {
        step("a", 1).await?;
    }
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    let local = std::hint::black_box([depth; 16]);
    recurse(depth + 1) + std::hint::black_box(local)[3]
}

/// Calls the host at every depth, the last time at the end of the stack.
#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse_and_call(depth: u64) -> u64 {
    let now = context::now();
    let info = context::get_info();
    recurse_and_call(depth + 1) + now + info.run as u64
}

pub fn huge(mib: &str) -> Output {
    let bytes = mib.parse::<usize>().unwrap() << 20;
    let mut value = String::with_capacity(bytes + 2);
    value.push('"');
    value.extend(std::iter::repeat_n('x', bytes));
    value.push('"');
    Ok(value)
}

pub async fn huge_argument(mib: &str) -> Output {
    let call = StepCall { step: "a".into(), input: huge(mib)? };
    durable::run_step(call, options()).await
}

fn log_flood() -> String {
    let line = "x".repeat(1000);
    for _ in 0..5000 {
        context::log(context::Level::Info, &line);
    }
    println!("one more");
    text("flooded")
}
