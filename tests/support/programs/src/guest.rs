//! A native guest: a program as a future that is driven to quiescence, with a table in which its calls are recorded.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use cerebelum_history::{
    ApprovalRequest, Call, Delivery, Entry, Failure, GuestInput, HttpRequest, Json, Level, Outcome, PollPolicy,
    Request, StepCall, StepOptions, Timestamp, Turn, WorkflowCall,
};
use futures::channel::oneshot;
use futures::future::{BoxFuture, join_all, select_all};

use crate::program::{Node, Stay, caught};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct CallTable {
    execution: String,
    /// Distinguishes executions with the same id: one may have begun in memory and never been stored.
    life: String,
    ordinals: u32,
    requests: Vec<Request>,
    open: HashMap<u32, oneshot::Sender<Outcome>>,
    closed: bool,
}

/// The state that a guest and its driver share.
#[derive(Clone, Default)]
struct HostCalls(Arc<Mutex<CallTable>>);

impl HostCalls {
    fn papers(&self) -> MutexGuard<'_, CallTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The input of a step at this path: the path, and the execution's life.
    fn input_of_step(&self, path: &str) -> Json {
        json(&format!("{path}@{}", self.papers().life))
    }
}

struct Waiting {
    desk: HostCalls,
    ordinal: u32,
    outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut papers = self.desk.papers();
        if papers.open.remove(&self.ordinal).is_some() && !papers.closed {
            papers.requests.push(Request::Drop(self.ordinal));
        }
    }
}

fn issue(desk: &HostCalls, call: Call) -> Waiting {
    let mut papers = desk.papers();
    papers.ordinals += 1;
    let ordinal = papers.ordinals;
    let (sender, outcome) = oneshot::channel();
    papers.open.insert(ordinal, sender);
    papers.requests.push(Request::Call(ordinal, call));
    Waiting { desk: desk.clone(), ordinal, outcome }
}

async fn ask(desk: &HostCalls, call: Call) -> Outcome {
    let mut waiting = issue(desk, call);
    (&mut waiting.outcome).await.expect("a desk keeps the sender of every open call")
}

async fn value(desk: &HostCalls, call: Call) -> Result<String, Failure> {
    match ask(desk, call).await {
        Outcome::Value(json) => Ok(serde_json::from_str(json.as_str()).expect("this world says only texts")),
        Outcome::Failed(failure) => Err(failure),
        other => panic!("a strange outcome: {other:?}"),
    }
}

/// The text as a JSON value.
pub fn json(text: &str) -> Json {
    Json::of(&text)
}

fn run(node: Node, path: String, desk: HostCalls) -> BoxFuture<'static, Result<String, Failure>> {
    Box::pin(async move {
        let inner = |nodes: Vec<Node>| -> Vec<_> {
            nodes.into_iter().zip(0..).map(|(node, i)| run(node, format!("{path}.{i}"), desk.clone())).collect()
        };
        match node {
            Node::Seq(nodes) => {
                let mut all = String::new();
                for future in inner(nodes) {
                    all.push_str(&future.await?);
                }
                Ok(all)
            }
            Node::Join(nodes) => {
                let all = join_all(inner(nodes)).await;
                Ok(format!("[{}]", all.into_iter().collect::<Result<String, _>>()?))
            }
            Node::Race(nodes) => {
                let (first, _, losers) = select_all(inner(nodes)).await;
                drop(losers);
                Ok(format!("first {}", first?))
            }
            Node::Catch(node) => Ok(caught(run(*node, format!("{path}.0"), desk).await)),
            Node::Attribute => {
                let mut papers = desk.papers();
                papers.ordinals += 1;
                let request = Request::SetAttribute(papers.ordinals, path.clone(), json(&path));
                papers.requests.push(request);
                Ok(String::new())
            }
            Node::Log => {
                desk.papers().requests.push(Request::Log(Level::Info, path.clone()));
                Ok(String::new())
            }
            leaf => call(leaf, path, &desk).await,
        }
    })
}

async fn call(node: Node, path: String, desk: &HostCalls) -> Result<String, Failure> {
    match node {
        Node::Sleep(duration_ms) => match ask(desk, Call::Sleep { duration_ms }).await {
            Outcome::Failed(failure) => Err(failure),
            _ => Ok("slept ".to_owned()),
        },
        Node::Step(step) => {
            let options =
                StepOptions { retry: Some(step.retry()), deadline_ms: step.deadline_ms, ..StepOptions::default() };
            let step = StepCall { step: "step".to_owned(), input: desk.input_of_step(&path) };
            Ok(format!("step({})", value(desk, Call::Step(step, options)).await?))
        }
        Node::Poll(poll) => {
            let policy = PollPolicy {
                interval_ms: poll.interval_ms,
                max_attempts: poll.checks_max,
                timeout_ms: poll.timeout_ms,
            };
            let check = StepCall { step: "check".to_owned(), input: desk.input_of_step(&path) };
            Ok(format!("poll({})", value(desk, Call::Poll(check, policy)).await?))
        }
        Node::Fetch => {
            let request = HttpRequest {
                method: "POST".to_owned(),
                url: format!("http://world/{}/{path}", desk.papers().execution),
                headers: Vec::new(),
                body: path.clone().into_bytes(),
                timeout_ms: None,
            };
            match ask(desk, Call::Fetch(request)).await {
                Outcome::Responded(response) => {
                    Ok(String::from_utf8(response.body).expect("this world says only texts"))
                }
                Outcome::Failed(failure) => Err(failure),
                other => panic!("a strange outcome: {other:?}"),
            }
        }
        Node::Approval { yes, timeout_ms } => {
            let kind = if yes { "yes" } else { "no" }.to_owned();
            let request = ApprovalRequest { kind, title: path, data: Json::null(), schema: None, timeout_ms };
            match ask(desk, Call::Approval(request)).await {
                Outcome::Approved(approval) => Ok(serde_json::from_str(approval.data.as_str()).expect("a text")),
                Outcome::Failed(failure) => Err(failure),
                other => panic!("a strange outcome: {other:?}"),
            }
        }
        Node::Signal { name, timeout_ms } => value(desk, Call::Signal { name: name.to_string(), timeout_ms }).await,
        Node::Child { awaited } => {
            let call = WorkflowCall { workflow: "w".to_owned(), input: json(&path), id: None };
            if awaited {
                return value(desk, Call::RunWorkflow(call)).await;
            }
            match ask(desk, Call::StartWorkflow(call)).await {
                Outcome::Failed(failure) => Err(failure),
                _ => Ok("started ".to_owned()),
            }
        }
        other => unreachable!("{other:?} is no call"),
    }
}

async fn enter(program: Arc<Node>, begin: GuestInput, stay: Stay, desk: HostCalls) -> Result<Json, Failure> {
    let input: String = serde_json::from_str(begin.input.as_str()).expect("a path");
    let path = input.split('@').next().unwrap_or_default().to_owned();
    if let Entry::Workflow(_) = begin.entry {
        if path.is_empty() {
            return run((*program).clone(), "0".to_owned(), desk).await.map(|text| json(&text));
        }
        let of_a_child = Node::Seq(vec![Node::Sleep(20), Node::Fetch]);
        run(of_a_child, path.clone(), desk).await?;
        return Ok(json(&format!("child {path} ")));
    }
    match program.at(&path) {
        Node::Step(step) => {
            let body = run(step.body.clone(), format!("{path}.0"), desk).await;
            step.conclude(body, stay).map(|text| json(&text))
        }
        Node::Poll(poll) => {
            let body = run(poll.body.clone(), format!("{path}.0"), desk).await;
            poll.conclude(body, stay).map(|text| Json::parse(text).expect("an answer"))
        }
        other => panic!("no step at {path}: {other:?}"),
    }
}

/// A guest in memory.
pub struct Guest {
    desk: HostCalls,
    future: Pin<Box<dyn Future<Output = Result<Json, Failure>> + Send>>,
    clock: Timestamp,
}

impl Guest {
    /// A guest that has not moved yet.
    #[must_use]
    pub fn begin(program: Arc<Node>, begin: GuestInput, stay: Stay) -> Self {
        let (desk, clock) = (HostCalls::default(), begin.clock);
        desk.papers().execution = begin.execution.to_string();
        let handed_down = begin.input.as_str().trim_end_matches('"').split_once('@').map(|(_, life)| life.to_owned());
        desk.papers().life = handed_down.unwrap_or_else(|| begin.idempotency_key.chars().take(8).collect());
        Self { future: Box::pin(enter(program, begin, stay, desk.clone())), desk, clock }
    }

    /// Delivers an outcome to the guest, if there is one, and runs the guest until it is quiescent.
    pub fn turn(&mut self, delivery: Option<Delivery>) -> Turn {
        if let Some(Delivery { ordinal, outcome, clock }) = delivery {
            assert!(clock >= self.clock, "the clock went back from {:?} to {clock:?}", self.clock);
            self.clock = clock;
            let sender = self.desk.papers().open.remove(&ordinal);
            let sender = sender.unwrap_or_else(|| panic!("an outcome for call {ordinal}, which is not open"));
            sender.send(outcome).expect("a call that is open is waited for");
        }
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let end = loop {
            match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => break Some(result),
                Poll::Pending if flag.0.swap(false, Ordering::SeqCst) => {}
                Poll::Pending => break None,
            }
        };
        let mut papers = self.desk.papers();
        papers.closed |= end.is_some();
        Turn { requests: std::mem::take(&mut papers.requests), end }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.desk.papers().closed = true;
    }
}
