//! Permitted behaviour of guests: calls in sequence, concurrent calls, races, clocks, random numbers, output.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::blocking::cerebelum::guest as sync;
use crate::cerebelum::guest::types::Failure;
use crate::cerebelum::guest::{context, durable, http};
use crate::{Output, call, options, step, text};

pub async fn workflow(name: &str, input: &str) -> Option<Output> {
    let number = || input.parse::<u64>().expect("this test wants a number");
    Some(match name {
        "sequential" => sequential(number()).await,
        "join" => join().await,
        "race" => race().await,
        "spawn" => spawn().await,
        "blocking" => blocking(number()),
        "many" => many(number()).await,
        "yields" => yields(number()).await,
        "chance" => Ok(chance()),
        "thread-sleep" => Ok(thread_sleep(number())),
        "compute" => compute(number()).await,
        "cancel" => cancel().await,
        "context" => Ok(about()),
        "attributes" => attributes(input),
        "print" => Ok(print()),
        "refusals" => Ok(refusals().await),
        "fetch" => fetch().await,
        "fail" => Err(Failure {
            kind: "no-luck".into(),
            message: "x".repeat(100_000),
            details: Some("{".into()),
            retryable: true,
        }),
        "progress" => Ok(progress()),
        "sleep" => durable::sleep(number()).await.map(|()| "null".into()),
        "all-calls" => Ok(all_calls().await),
        _ => return None,
    })
}

async fn sequential(count: u64) -> Output {
    let mut sum = 0;
    for i in 0..count {
        sum += step("a", i).await?.parse::<u64>().unwrap();
    }
    Ok(sum.to_string())
}

async fn join() -> Output {
    let order = RefCell::new(Vec::new());
    let one = |name: &'static str| {
        let order = &order;
        async move {
            let output = step(name, 1).await;
            order.borrow_mut().push(name);
            step(name, 2).await?;
            output
        }
    };
    let (a, b, ()) = futures::join!(one("a"), one("b"), async { order.borrow_mut().push("other") });
    a?;
    b?;
    Ok(text(order.borrow().join(",")))
}

async fn race() -> Output {
    let winner = {
        let step = std::pin::pin!(step("never", 1));
        let timer = std::pin::pin!(durable::sleep(10));
        match select(step, timer).await {
            Either::Left(_) => "step",
            Either::Right(_) => "timer",
        }
    };
    step("after", 1).await?;
    Ok(text(winner))
}

async fn spawn() -> Output {
    let seen = Rc::new(RefCell::new(Vec::new()));
    for name in ["s1", "s2", "s3"] {
        let seen = Rc::clone(&seen);
        wit_bindgen::spawn_local(async move {
            let output = step(name, 1).await;
            seen.borrow_mut().push(format!("{name}={}", output.is_ok()));
            // Has no outcome. The call is dropped with the guest when the workflow returns, which must not be recorded.
            let _ = step("left-over", 1).await;
        });
    }
    step("main", 1).await?;
    step("main", 2).await?;
    let seen = seen.borrow().join(",");
    Ok(text(seen))
}

fn blocking(count: u64) -> Output {
    let mut sum = 0;
    for i in 0..count {
        let call = sync::types::StepCall { step: "a".into(), input: i.to_string() };
        let options = sync::types::StepOptions { retry: None, timeout: None, deadline: None };
        let output = sync::durable::run_step(&call, options);
        sum += output.map_err(|f| failure(&f.message))?.parse::<u64>().unwrap();
    }
    Ok(sum.to_string())
}

fn failure(message: &str) -> Failure {
    Failure { kind: "failure".into(), message: message.into(), details: None, retryable: false }
}

async fn many(count: u64) -> Output {
    let mut calls: FuturesUnordered<_> = (0..count).map(|i| step("a", i)).collect();
    let mut order = Vec::new();
    while let Some(output) = calls.next().await {
        order.push(output?);
    }
    Ok(format!("[{}]", order.join(",")))
}

async fn yields(count: u64) -> Output {
    let mut sum = 0;
    for i in 0..count {
        wit_bindgen::yield_async().await;
        wit_bindgen::yield_blocking();
        let (a, ()) = futures::join!(step("a", i), async {
            for _ in 0..10 {
                wit_bindgen::yield_async().await;
            }
        });
        sum += a?.parse::<u64>().unwrap();
    }
    Ok(sum.to_string())
}

fn chance() -> String {
    let map: HashMap<u32, u32> = (0..20).map(|i| (i, i)).collect();
    let order: Vec<String> = map.keys().map(u32::to_string).collect();
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let now = since(SystemTime::now());
    let instant = format!("{:?}", Instant::now());
    format!("[[{}],{now},{},{}]", order.join(","), context::now(), text(instant))
}

fn thread_sleep(ms: u64) -> String {
    let (wall, monotonic) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_millis(ms));
    std::thread::sleep(Duration::ZERO);
    format!("[{},{}]", wall.elapsed().unwrap().as_millis(), monotonic.elapsed().as_millis())
}

/// Three branches that compute between their calls, so that ticks occur at any point.
async fn compute(millions: u64) -> Output {
    let branch = |seed: u64| async move {
        let mut x = seed;
        for round in 0..5 {
            for _ in 0..millions * 1_000_000 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed));
            }
            context::log(context::Level::Debug, &format!("{seed}.{round}"));
            step("a", x % 1000).await?;
        }
        Ok::<u64, Failure>(x)
    };
    let (a, b, c) = futures::join!(branch(1), branch(2), branch(3));
    Ok((a? ^ b? ^ c?).to_string())
}

async fn cancel() -> Output {
    let pending = std::pin::pin!(step("never", 1));
    let first = match select(pending, std::pin::pin!(async {})).await {
        Either::Right(((), pending)) => pending,
        Either::Left(_) => unreachable!(),
    };
    durable::cancel(durable::last_call());
    let told = first.await.unwrap_err();
    step("after", 1).await?;
    Ok(text(told.kind))
}

fn about() -> String {
    let info = context::get_info();
    text(format!(
        "{} {} {:?} {} {} {}",
        info.execution_id, info.workflow, info.step, info.run, info.attempt, info.idempotency_key
    ))
}

pub fn attributes(value: &str) -> Output {
    context::set_attribute("region", "\"fra1\"");
    context::set_attribute("value", value);
    Ok("null".into())
}

fn print() -> String {
    print!("hello");
    println!(" world");
    eprintln!("careful");
    context::log(context::Level::Error, "wrong");
    eprint!("no end");
    "null".into()
}

fn progress() -> String {
    context::progress(10, "begun");
    context::log(context::Level::Info, "between");
    context::progress(250, "done");
    "null".into()
}

/// Makes invalid requests and returns the kinds of the failures.
async fn refusals() -> String {
    let mut told = Vec::new();
    let year = 365 * 24 * 3_600_000;
    told.push(durable::sleep(0).await.map_or_else(|f| f.kind, |()| "ok".into()));
    told.push(durable::sleep(year + 1).await.unwrap_err().kind);
    told.push(step("a", "{").await.unwrap_err().kind);
    told.push(step("a", "[".repeat(200)).await.unwrap_err().kind);
    told.push(step("a", text("x".repeat(1 << 20))).await.unwrap_err().kind);
    told.push(step("", 1).await.unwrap_err().kind);
    told.push(durable::await_signal("s".into(), Some(year + 1)).await.unwrap_err().kind);
    let policy = durable::PollPolicy { interval: 1, max_attempts: 0, timeout: None };
    told.push(durable::poll(call("a", 1), policy).await.unwrap_err().kind);
    let child = durable::WorkflowCall { workflow: "w".into(), input: "1".into(), id: Some("a b".into()) };
    told.push(durable::start_workflow(child).await.unwrap_err().kind);
    told.push(durable::last_call().to_string());
    text(told.join(" "))
}

pub async fn fetch() -> Output {
    let request = http::Request {
        method: "GET".into(),
        url: "https://api.example.com/".into(),
        headers: vec![("a".into(), "b".into())],
        body: vec![1, 2, 255],
        timeout: None,
    };
    let response = http::fetch(request).await?;
    Ok(format!("[{},{}]", response.status, response.body.len()))
}

pub async fn continue_as_new() -> Output {
    durable::continue_as_new("1".into()).await.map(|()| "null".into())
}

/// Makes one call of each kind and returns the outcomes as text.
async fn all_calls() -> String {
    let mut told = Vec::new();
    let mut say = |result: Result<String, Failure>| told.push(result.unwrap_or_else(|f| f.kind));
    say(durable::sleep(5).await.map(|()| "slept".into()));
    say(durable::run_step(call("a", 1), options()).await);
    say(durable::poll(call("a", 1), durable::PollPolicy { interval: 1, max_attempts: 2, timeout: None }).await);
    let asked = durable::ApprovalRequest {
        kind: "manual".into(),
        title: "Go?".into(),
        data: "{}".into(),
        schema: None,
        timeout: Some(9),
    };
    say(durable::await_approval(asked).await.map(|yes| format!("{} by {}", yes.data, yes.by)));
    say(durable::await_signal("s".into(), None).await);
    let child = |id| durable::WorkflowCall { workflow: "w".into(), input: "1".into(), id };
    say(durable::run_workflow(child(None)).await);
    say(durable::start_workflow(child(Some("child-1".into()))).await);
    say(continue_as_new().await);
    text(told.join(" "))
}
