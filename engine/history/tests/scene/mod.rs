//! A scene: an execution whose guests are played by hand, with a store that keeps everything at once.

#![allow(dead_code, reason = "each test file plays with a part of it")]

use std::collections::{BTreeMap, HashMap};

use cerebelum_history::{
    ApprovalRequest, Call, CallName, Changes, Delivery, Digest, Event, Execution, ExecutionOptions, Failure,
    GuestInput, HttpRequest, Identity, Json, Message, Moment, OpenCall, Outcome, PollPolicy, Receipt, Request,
    RetryPolicy, Scope, Seed, Snapshot, StepCall, StepOptions, Target, Timestamp, WorkflowCall,
};

/// The time at which every scene begins.
pub(crate) const START: u64 = 1_000_000;

/// An execution, its store and its clock.
pub(crate) struct Scene {
    pub(crate) ex: Execution,
    pub(crate) now: u64,
    /// The random number for everything that follows.
    pub(crate) chance: f64,
    /// The declarations of the next target, or why there is no such target.
    pub(crate) target: Result<Target, Failure>,
    pub(crate) stored: Vec<Event>,
    pub(crate) open: BTreeMap<CallName, String>,
    ordinals: HashMap<Scope, u32>,
    messages: i64,
}

pub(crate) fn scope(text: &str) -> Scope {
    Scope::from_text(text)
}

pub(crate) fn name(text: &str) -> CallName {
    text.parse().unwrap()
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn identity() -> Identity {
    Identity {
        id: "order-7".parse().unwrap(),
        workflow: "shop/order".to_owned(),
        digest: Digest::of(b"shop"),
        seed: Seed([7; 32]),
        run: 1,
    }
}

impl Scene {
    /// A scene whose workflow has begun.
    pub(crate) fn new() -> Self {
        let mut scene = Self::with(ExecutionOptions::default());
        scene.begin("");
        scene
    }

    /// A scene with these options, stored, and nothing else.
    pub(crate) fn with(options: ExecutionOptions) -> Self {
        let ex = Execution::start(identity(), json("{}"), options, Timestamp(START));
        let mut scene = Self {
            ex,
            now: START,
            chance: 0.5,
            target: Ok(Target::default()),
            stored: Vec::new(),
            open: BTreeMap::new(),
            ordinals: HashMap::new(),
            messages: 0,
        };
        scene.save();
        scene
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { at: Timestamp(self.now), chance: self.chance }
    }

    /// Sets the clock to this many milliseconds since the start, and fires what is due.
    pub(crate) fn at(&mut self, ms: u64) {
        self.now = START + ms;
        self.ex.tick(self.moment());
    }

    /// Moves the clock on by this many milliseconds.
    pub(crate) fn later(&mut self, ms: u64) {
        self.at(self.now - START + ms);
    }

    /// Makes everything durable.
    pub(crate) fn save(&mut self) -> Changes {
        let changes = self.ex.take_changes();
        self.stored.extend(changes.events.iter().cloned());
        assert_eq!(self.ex.position().0, self.stored.len() as u64);
        for (scope, from, to) in &changes.valueless {
            let range = usize::try_from(from.0).unwrap() - 1..usize::try_from(to.0).unwrap();
            for event in self.stored[range].iter_mut().filter(|event| event.scope == *scope) {
                event.data = event.data.clone().without_values();
            }
        }
        self.open.extend(changes.opened.iter().cloned());
        changes.closed.iter().for_each(|name| drop(self.open.remove(name)));
        self.ex.acknowledge(changes.lsn, self.ex.position());
        changes
    }

    /// Forgets everything that is not stored, and starts over from the store. The execution is restored as settled only
    /// if `settled` is set and it was.
    pub(crate) fn reload(&mut self, settled: bool) {
        let open = self.open.iter().map(|(name, text)| (name.clone(), OpenCall::decode(text).unwrap()));
        self.ex = self.restored(open.collect(), settled);
        self.ordinals.clear();
    }

    /// The execution as it is restored with these open calls.
    pub(crate) fn restored(&self, open: Vec<(CallName, OpenCall)>, settled: bool) -> Execution {
        let stored = Snapshot {
            position: cerebelum_history::Position(self.stored.len() as u64),
            stamp: self.stored.last().unwrap().at,
            paused: self.ex.is_paused(),
            settled: settled && self.ex.is_settled(),
            options: self.ex.options().clone(),
            attributes: self.ex.attributes().clone(),
            open,
        };
        Execution::restore(identity(), stored)
    }

    /// Starts a guest.
    pub(crate) fn begin(&mut self, of: &str) -> GuestInput {
        let scope = scope(of);
        assert!(self.ex.wanted().contains(&scope), "nobody wants a guest of `{of}`, but of {:?}", self.ex.wanted());
        let first = self.ex.journal_from(&scope).map_or(self.stored.len(), |from| usize::try_from(from.0).unwrap() - 1);
        self.ordinals.remove(&scope);
        let events = self.stored.get(first..).unwrap_or_default().to_vec();
        self.ex.begin(&scope, &events).unwrap()
    }

    /// Moves the clock on, and starts a guest that is then told the outcome of its first sleep.
    pub(crate) fn begin_again_at(&mut self, of: &str, ms: u64) {
        self.at(ms);
        self.begin(of);
        self.call(of, sleep(10));
    }

    /// Lets a guest make a call.
    pub(crate) fn call(&mut self, of: &str, call: Call) -> u32 {
        let ordinal = self.ordinals.entry(scope(of)).or_default();
        *ordinal += 1;
        let ordinal = *ordinal;
        self.ask(of, Request::Call(ordinal, call)).unwrap_or_else(|diverged| panic!("{diverged}"));
        ordinal
    }

    /// Lets a guest set an attribute.
    pub(crate) fn sets(&mut self, of: &str, name: &str, value: &str) -> u32 {
        let ordinal = self.ordinals.entry(scope(of)).or_default();
        *ordinal += 1;
        let ordinal = *ordinal;
        self.ask(of, Request::SetAttribute(ordinal, name.to_owned(), json(value))).unwrap();
        ordinal
    }

    /// Lets a guest make a request.
    pub(crate) fn ask(&mut self, of: &str, request: Request) -> Result<(), cerebelum_history::NonDeterminism> {
        let scope = scope(of);
        let target = self.ex.needs_target(&scope, &request).map(|_| self.target.clone());
        self.ex.request(&scope, request, target, self.moment())
    }

    /// Lets a guest drop a call.
    pub(crate) fn drops(&mut self, of: &str, ordinal: u32) {
        self.ask(of, Request::Drop(ordinal)).unwrap();
    }

    /// Lets a guest end.
    pub(crate) fn ends(&mut self, of: &str, result: Result<&str, Failure>) {
        self.ex.ended(&scope(of), result.map(json), self.moment()).unwrap_or_else(|diverged| panic!("{diverged}"));
    }

    /// The outcomes that a quiescent guest is told now.
    pub(crate) fn told(&mut self, of: &str) -> Vec<Delivery> {
        let mut told = Vec::new();
        while let Some(delivery) = self.ex.next_delivery(&scope(of), self.moment()).unwrap() {
            told.push(delivery);
        }
        told
    }

    /// The same outcomes in short: `2 slept`, `1 value 5`, `1 failed kind`.
    pub(crate) fn hears(&mut self, of: &str) -> Vec<String> {
        self.told(of).iter().map(|delivery| format!("{} {}", delivery.ordinal, short(&delivery.outcome))).collect()
    }

    /// The next outcome that a quiescent guest is told, in short.
    pub(crate) fn hears_next(&mut self, of: &str) -> String {
        let delivery = self.ex.next_delivery(&scope(of), self.moment()).unwrap().unwrap();
        format!("{} {}", delivery.ordinal, short(&delivery.outcome))
    }

    /// Receives a message. Returns its number and what happened to it.
    pub(crate) fn say(&mut self, message: Message) -> (i64, Receipt) {
        self.messages += 1;
        (self.messages, self.ex.receive(self.messages, false, message, self.moment()))
    }

    pub(crate) fn signal(&mut self, name: &str, data: &str) -> i64 {
        self.say(Message::Signal { name: name.to_owned(), data: json(data), cause: None }).0
    }

    /// The history in short from this position on, stored or not: `SleepStarted 1`, `3.1: SleepCompleted 1`.
    pub(crate) fn history(&mut self, from: usize) -> Vec<String> {
        self.save();
        self.stored[from - 1..].iter().map(line).collect()
    }

    /// The failure that a call returns.
    pub(crate) fn failure(&mut self, of: &str) -> Failure {
        match self.told(of).pop().map(|delivery| delivery.outcome) {
            Some(Outcome::Failed(failure)) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }
}

fn line(event: &Event) -> String {
    let scope = if event.scope.is_root() { String::new() } else { format!("{}: ", event.scope) };
    let ordinal = event.data.ordinal().map_or(String::new(), |ordinal| format!(" {ordinal}"));
    format!("{scope}{}{ordinal}", event.data.kind())
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Slept => "slept".to_owned(),
        Outcome::Value(json) => format!("value {json}"),
        Outcome::Approved(approval) => format!("approved {} by {}", approval.data, approval.by),
        Outcome::Responded(response) => format!("responded {}", response.status),
        Outcome::Started(id) => format!("started {id}"),
        Outcome::Failed(failure) => format!("failed {}", failure.kind),
    }
}

pub(crate) fn sleep(duration_ms: u64) -> Call {
    Call::Sleep { duration_ms }
}

pub(crate) fn step(step: &str) -> Call {
    Call::Step(StepCall { step: step.to_owned(), input: json("0") }, StepOptions::default())
}

pub(crate) fn step_with(step: &str, options: StepOptions) -> Call {
    Call::Step(StepCall { step: step.to_owned(), input: json("0") }, options)
}

pub(crate) fn retry(max_attempts: u32, delay_ms: u64, backoff: f64, jitter: f64) -> StepOptions {
    let retry = RetryPolicy { max_attempts, delay_ms, backoff, delay_ms_max: 30_000, jitter };
    StepOptions { retry: Some(retry), ..StepOptions::default() }
}

pub(crate) fn poll(check: &str, interval_ms: u64, max_attempts: u32, timeout_ms: Option<u64>) -> Call {
    let policy = PollPolicy { interval_ms, max_attempts, timeout_ms };
    Call::Poll(StepCall { step: check.to_owned(), input: json("0") }, policy)
}

pub(crate) fn approval(title: &str, timeout_ms: Option<u64>) -> Call {
    let (kind, title) = ("manual".to_owned(), title.to_owned());
    Call::Approval(ApprovalRequest { kind, title, data: json("{}"), schema: None, timeout_ms })
}

pub(crate) fn signal(name: &str, timeout_ms: Option<u64>) -> Call {
    Call::Signal { name: name.to_owned(), timeout_ms }
}

pub(crate) fn fetch(url: &str) -> Call {
    let (method, url) = ("GET".to_owned(), url.to_owned());
    Call::Fetch(HttpRequest { method, url, headers: Vec::new(), body: Vec::new(), timeout_ms: None })
}

pub(crate) fn child(workflow: &str) -> WorkflowCall {
    WorkflowCall { workflow: workflow.to_owned(), input: json("0"), id: None }
}

pub(crate) fn broken(message: &str) -> Failure {
    Failure::retryable(cerebelum_history::kind::FAILURE, message)
}
