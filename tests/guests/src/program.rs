//! Programs as data: what a test wants a workflow or a step to do, as a list of operations.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime};

use cerebelum::prelude::*;
use cerebelum::{Level, Scalar};
use futures::future::{FutureExt, LocalBoxFuture};
use serde_json::{Value, json};

use crate::{Look, look, run_in_step};

/// One operation. The value of a program is that of its last one; an error ends it.
#[data]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// This value.
    Value(Json),
    /// Sleep for milliseconds.
    Sleep(u64),
    /// Send a request; a status of 400 or more is an error. Steps only.
    Fetch(Fetch),
    /// Run a program in a step.
    Step(StepProgram),
    /// Call a step by name; without input with the value of the operation before.
    Call(ByName),
    /// Run programs at once; yields their values in order.
    All(Vec<Vec<Op>>),
    /// Run programs at once; yields the first value and drops the others.
    Race(Vec<Vec<Op>>),
    /// Host-driven poll with the step `look`.
    Poll(Polling),
    /// Poll in place with fetches. Steps only.
    PollInPlace(Polling),
    /// Retry a fetch in place. Steps only.
    RetryInPlace(Retrying),
    /// Ask a person; yields `{"data", "by", "comment"}`.
    Approval(Question),
    /// Wait for a signal.
    Signal(Awaited),
    /// Run a child.
    Child(ByName),
    /// Start an execution; yields its id.
    Start(ByName),
    /// Continue as new with this program.
    ContinueAsNew(Vec<Op>),
    /// Report progress.
    Progress(u8, String),
    /// Log a line.
    Log(String),
    /// Set an attribute. Workflows only.
    Attribute(String, String),
    /// Fail.
    Fail(Fault),
    /// Run a program; yields `{"ok": value}` or `{"error": {"kind", "message"}}`.
    Try(Vec<Op>),
    /// Run a program; when it was cancelled, run the second one and pass the cancellation on.
    OnCancel(Vec<Op>, Vec<Op>),
    /// Run a program so many times; yields all values.
    Repeat(u32, Vec<Op>),
    /// Which execution, run, attempt and step this is.
    Whoami,
    /// What clocks, chance and hash maps show.
    Observe,
}

/// A request.
#[data]
pub struct Fetch {
    /// Where to.
    pub url: String,
    /// `POST` unless told.
    #[serde(default)]
    pub method: Option<String>,
    /// Headers besides.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, sent as JSON.
    #[serde(default)]
    pub body: Option<Json>,
    /// Milliseconds for the whole exchange.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A step that runs a program.
#[data]
pub struct StepProgram {
    /// What it does.
    pub program: Vec<Op>,
    /// Attempts in all.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// Milliseconds before the second attempt.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// Factor from one wait to the next.
    #[serde(default)]
    pub backoff: Option<f64>,
    /// Milliseconds for each stretch.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Milliseconds for the whole step.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
}

/// Something with a name that takes an input.
#[data]
pub struct ByName {
    /// Its name.
    pub name: String,
    /// Its input.
    #[serde(default)]
    pub input: Option<Json>,
    /// The execution's id.
    #[serde(default)]
    pub id: Option<String>,
}

/// A poll of a URL: a success is ready, anything else is not yet.
#[data]
pub struct Polling {
    /// Where to look.
    pub url: String,
    /// Milliseconds between two looks.
    pub every_ms: u64,
    /// Looks in all.
    pub attempts: u32,
    /// Milliseconds for all of it.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A fetch that is tried again.
#[data]
pub struct Retrying {
    /// Where to.
    pub url: String,
    /// Attempts in all.
    pub attempts: u32,
    /// Milliseconds before the second one.
    pub delay_ms: u64,
    /// Factor from one wait to the next.
    pub backoff: f64,
}

/// A question to a person.
#[data]
pub struct Question {
    /// What is asked.
    pub title: String,
    /// Its sort.
    #[serde(default)]
    pub kind: Option<String>,
    /// What the person sees.
    #[serde(default)]
    pub data: Option<Json>,
    /// Milliseconds for which it stands.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A signal to wait for.
#[data]
pub struct Awaited {
    /// Its name.
    pub name: String,
    /// Milliseconds to wait.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A failure on purpose.
#[data]
pub struct Fault {
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub message: String,
    /// Whether no further attempt can mend it.
    #[serde(default)]
    pub permanent: bool,
}

/// Runs a program to its end.
pub fn interpret(ctx: Context, program: Vec<Op>) -> LocalBoxFuture<'static, Result<Json>> {
    async move {
        let mut last = Json::default();
        for op in program {
            last = perform(&ctx, op, last).await?;
        }
        Ok(last)
    }
    .boxed_local()
}

async fn perform(ctx: &Context, op: Op, last: Json) -> Result<Json> {
    match op {
        Op::Value(value) => Ok(value),
        Op::Sleep(ms) => Json::of(&ctx.sleep(millis(ms)).await?),
        Op::Fetch(fetch) => Json::of(&send(ctx, fetch).await?),
        Op::Step(step) => call_step(ctx, step).await,
        Op::Call(call) => ctx.step_by_name(&call.name, &call.input.unwrap_or(last)).await,
        Op::All(programs) => Json::of(&join_all(programs.into_iter().map(|p| interpret(ctx.clone(), p))).await?),
        Op::Race(programs) => {
            futures::future::select_all(programs.into_iter().map(|p| interpret(ctx.clone(), p))).await.0
        }
        Op::Poll(Polling { url, every_ms, attempts, timeout_ms }) => {
            let poll = ctx.poll(look, Look { url }).every(millis(every_ms)).attempts(attempts);
            Json::of(&with(poll, timeout_ms, |poll, ms| poll.timeout(millis(ms))).await?)
        }
        Op::PollInPlace(polling) => poll_in_place(ctx, polling).await,
        Op::RetryInPlace(Retrying { url, attempts, delay_ms, backoff }) => {
            let tries = ctx.retry(|_| async { http::post(&url).send(ctx).await?.error_for_status() });
            let response = tries.attempts(attempts).delay(millis(delay_ms)).backoff(backoff).await?;
            Json::of(&body_of(&response))
        }
        Op::Approval(question) => ask(ctx, question).await,
        Op::Signal(Awaited { name, timeout_ms }) => {
            with(ctx.signal(name), timeout_ms, |signal, ms| signal.timeout(millis(ms))).await
        }
        Op::Child(ByName { name, input, id }) => {
            let child = ctx.run_workflow_by_name(&name, &input.unwrap_or(last));
            with(child, id, |child, id| child.id(id)).await
        }
        Op::Start(ByName { name, input, id }) => {
            let start = ctx.start_workflow_by_name(&name, &input.unwrap_or(last));
            Json::of(&with(start, id, |start, id| start.id(id)).await?)
        }
        Op::ContinueAsNew(program) => ctx.continue_as_new(program).await,
        Op::Try(program) => match interpret(ctx.clone(), program).await {
            Ok(value) => Json::of(&BTreeMap::from([("ok", value)])),
            Err(error) => Json::of(&json!({"error": {"kind": error.kind(), "message": error.message()}})),
        },
        Op::OnCancel(program, cleanup) => match interpret(ctx.clone(), program).await {
            Err(error) if error.is_cancelled() => {
                interpret(ctx.clone(), cleanup).await?;
                Err(error)
            }
            other => other,
        },
        Op::Repeat(times, program) => {
            let mut values = Vec::new();
            for _ in 0..times {
                values.push(interpret(ctx.clone(), program.clone()).await?);
            }
            Json::of(&values)
        }
        Op::Progress(..) | Op::Log(_) | Op::Attribute(..) | Op::Fail(_) | Op::Whoami | Op::Observe => say(ctx, op, last),
    }
}

/// The operations that do not wait.
fn say(ctx: &Context, op: Op, last: Json) -> Result<Json> {
    match op {
        Op::Progress(percent, message) => ctx.progress(percent, message),
        Op::Log(text) => ctx.log(Level::Info, text),
        Op::Attribute(name, value) => ctx.set_attribute(name, Scalar::from(value)),
        Op::Fail(Fault { kind, message, permanent }) => {
            let error = Error::new(kind, message);
            return Err(if permanent { error.permanent() } else { error });
        }
        Op::Whoami => {
            return Json::of(&json!({
                "execution_id": ctx.execution_id(),
                "workflow": ctx.workflow_name(),
                "step": ctx.step_name(),
                "run": ctx.run(),
                "attempt": ctx.attempt(),
                "idempotency_key": ctx.idempotency_key(),
            }));
        }
        Op::Observe => return Json::of(&observe(ctx)),
        waiting => unreachable!("{waiting:?} is performed elsewhere"),
    }
    Ok(last)
}

async fn send(ctx: &Context, fetch: Fetch) -> Result<Value> {
    let method = fetch.method.as_deref().unwrap_or("POST").parse()?;
    let mut request = http::request(method, fetch.url);
    for (name, value) in fetch.headers {
        request = request.header(name, value);
    }
    if let Some(body) = fetch.body {
        request = request.json(&body);
    }
    if let Some(ms) = fetch.timeout_ms {
        request = request.timeout(millis(ms));
    }
    Ok(body_of(&request.send(ctx).await?.error_for_status()?))
}

/// The body as JSON if it is any, as text if not.
pub fn body_of(response: &http::Response<Vec<u8>>) -> Value {
    response.json().unwrap_or_else(|_| Value::from(response.text()))
}

async fn call_step(ctx: &Context, step: StepProgram) -> Result<Json> {
    let StepProgram { program, max_attempts, delay_ms, backoff, timeout_ms, deadline_ms } = step;
    let plain = RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT };
    let policy = RetryPolicy {
        max_attempts: max_attempts.unwrap_or(plain.max_attempts),
        delay_ms: delay_ms.unwrap_or(plain.delay_ms),
        backoff: backoff.unwrap_or(plain.backoff),
        ..plain
    };
    let mut call = run_in_step(ctx, program).retry(policy);
    call = with(call, timeout_ms, |call, ms| call.timeout(millis(ms)));
    call = with(call, deadline_ms, |call, ms| call.deadline(millis(ms)));
    call.await
}

async fn poll_in_place(ctx: &Context, polling: Polling) -> Result<Json> {
    let Polling { url, every_ms, attempts, timeout_ms } = polling;
    let poll = ctx.poll_until(|_| async {
        let response = http::get(&url).send(ctx).await?;
        Ok(response.status().is_success().then(|| body_of(&response)))
    });
    let poll = poll.every(millis(every_ms)).attempts(attempts);
    Json::of(&with(poll, timeout_ms, |poll, ms| poll.timeout(millis(ms))).await?)
}

async fn ask(ctx: &Context, question: Question) -> Result<Json> {
    let Question { title, kind, data, timeout_ms } = question;
    let mut call = ctx.approval(title);
    call = with(call, kind, |call, kind| call.kind(kind));
    call = with(call, data, |call, data| call.data(&data));
    call = with(call, timeout_ms, |call, ms| call.timeout(millis(ms)));
    Json::of(&call.await?)
}

/// A call with an option, where there is one.
fn with<C, O>(call: C, option: Option<O>, set: impl FnOnce(C, O) -> C) -> C {
    match option {
        Some(option) => set(call, option),
        None => call,
    }
}

/// What clocks, chance and hash maps show.
pub fn observe(ctx: &Context) -> Value {
    let ms = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let order: HashMap<u32, u32> = (0..16).map(|n| (n, n)).collect();
    let monotonic = Instant::now();
    json!({
        "context_ms": ms(ctx.now()),
        "clock_ms": ms(SystemTime::now()),
        "monotonic_moved": monotonic.elapsed().as_nanos() > 0,
        "chance": RandomState::new().hash_one(7_u8).to_string(),
        "order": order.into_keys().collect::<Vec<_>>(),
    })
}
