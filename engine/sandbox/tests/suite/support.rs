//! Shared by the sandbox's tests: the test guest, a sandbox, and a loop that answers calls.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use cerebelum_history::{
    Call, Delivery, Digest, Entry, Failure, GuestInput, Json, Outcome, Request, Seed, Timestamp, Turn, kind,
};
use cerebelum_sandbox::{Account, Config, Guest, Ledger, Program, Sandbox};

pub(crate) const BEGAN: u64 = 1_800_000_000_000;

/// An account of a ledger that is never full.
pub(crate) fn ample() -> Arc<Account> {
    Ledger::new(1 << 30).account()
}

/// The test guest, built once per run.
pub(crate) fn guest_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["build", "--profile", "guest", "--target", "wasm32-wasip2", "-p", "sandbox-test-guest"];
        let built = Command::new(cargo).args(arguments).current_dir(&root).status().unwrap();
        assert!(built.success(), "the test guest builds");
        // CARGO_TARGET_TMPDIR is `target/tmp`, whatever the target folder is called.
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
        std::fs::read(target.join("wasm32-wasip2/guest/sandbox_test_guest.wasm")).unwrap()
    })
}

/// The defaults, with a data folder that later runs reuse.
pub(crate) fn config() -> Config {
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox");
    // Small pools: several sandboxes share the address space of one test process.
    Config { small_instances_max: 160, large_instances_max: 4, memory_bytes_max: 2 << 30, ..Config::new(data) }
}

/// The sandbox for all tests of a binary that need no special settings.
pub(crate) fn sandbox() -> Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(config()).unwrap()).clone()
}

pub(crate) async fn program_of(sandbox: &Sandbox) -> Program {
    let digest = Digest::of(guest_bytes());
    sandbox.load(&digest, async { Ok::<_, String>(guest_bytes().to_vec()) }).await.unwrap()
}

pub(crate) async fn program() -> Program {
    program_of(&sandbox()).await
}

pub(crate) fn workflow(name: &str, input: &str) -> GuestInput {
    begin(Entry::Workflow(name.into()), input)
}

pub(crate) fn step(name: &str, input: &str) -> GuestInput {
    begin(Entry::Step(name.into()), input)
}

fn begin(entry: Entry, input: &str) -> GuestInput {
    let seed = Seed([7; 32]);
    let scope = cerebelum_history::Scope::root();
    GuestInput {
        entry,
        input: json(input),
        clock: Timestamp(BEGAN),
        seed: seed.random(1, &scope, 1),
        execution: "e-1".parse().unwrap(),
        workflow: "w".into(),
        run: 1,
        attempt: 1,
        idempotency_key: seed.scope_key(1, &scope),
    }
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// The record of one run of a guest: its turns and its end (none when no open call could be answered).
#[derive(Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) turns: Vec<Turn>,
    pub(crate) end: Option<Result<Json, Failure>>,
}

impl Ran {
    pub(crate) fn output(&self) -> &str {
        match &self.end {
            Some(Ok(output)) => output.as_str(),
            other => panic!("no output but {other:?}"),
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        match &self.end {
            Some(Err(failure)) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }

    pub(crate) fn requests(&self) -> Vec<&Request> {
        self.turns.iter().flat_map(|turn| &turn.requests).collect()
    }

    pub(crate) fn calls(&self) -> usize {
        self.requests().iter().filter(|request| matches!(request, Request::Call(..))).count()
    }

    pub(crate) fn drops(&self) -> Vec<u32> {
        let dropped = |request: &&Request| match request {
            Request::Drop(ordinal) => Some(*ordinal),
            _ => None,
        };
        self.requests().iter().filter_map(dropped).collect()
    }

    pub(crate) fn logs(&self) -> Vec<String> {
        let logged = |request: &&Request| match request {
            Request::Log(level, line) => Some(format!("{} {line}", level.as_str())),
            _ => None,
        };
        self.requests().iter().filter_map(logged).collect()
    }
}

/// Runs to the end, answering the oldest open call first. Steps echo their input unless they are named `never` or
/// `left-over`; sleeps take their duration; everything else takes a millisecond.
pub(crate) async fn run(begin: GuestInput) -> Ran {
    run_on(&program().await, begin).await
}

pub(crate) async fn run_on(program: &Program, begin: GuestInput) -> Ran {
    let mut guest = program.start(begin, ample()).await.unwrap();
    play(&mut guest, answer).await
}

/// Takes the worker's role for one guest.
pub(crate) async fn play(guest: &mut Guest, answer: impl Fn(&Call) -> Option<(u64, Outcome)>) -> Ran {
    let (mut open, mut clock, mut delivery) = (VecDeque::new(), BEGAN, None);
    let mut turns = Vec::new();
    loop {
        let turn = guest.turn(delivery.take()).await.unwrap();
        for request in &turn.requests {
            match request {
                Request::Call(ordinal, call) => open.push_back((*ordinal, call.clone())),
                Request::Drop(ordinal) => open.retain(|(open, _)| open != ordinal),
                Request::Log(..) | Request::Progress(..) | Request::SetAttribute(..) => {}
            }
        }
        let end = turn.end.clone();
        turns.push(turn);
        let next = open.iter().position(|(_, call)| answer(call).is_some());
        match (end, next) {
            (None, Some(at)) => {
                let (ordinal, call): (u32, Call) = open.remove(at).unwrap();
                let (took, outcome) = answer(&call).unwrap();
                clock += took;
                delivery = Some(Delivery { ordinal, outcome, clock: Timestamp(clock) });
            }
            (end, _) => return Ran { turns, end },
        }
    }
}

pub(crate) fn answer(call: &Call) -> Option<(u64, Outcome)> {
    match call {
        Call::Sleep { duration_ms } => Some((*duration_ms, Outcome::Slept)),
        Call::Step(step, _) if step.step == "never" || step.step == "left-over" => None,
        Call::Step(step, _) => Some((1, Outcome::Value(step.input.clone()))),
        Call::Poll(check, _) => Some((1, Outcome::Value(check.input.clone()))),
        Call::Approval(asked) => {
            let approval = cerebelum_history::Approval { data: asked.data.clone(), by: "ann".into(), comment: None };
            Some((1, Outcome::Approved(approval)))
        }
        Call::Signal { .. } => Some((1, Outcome::Value(json("\"signal\"")))),
        Call::Fetch(_) => {
            let response = cerebelum_history::HttpResponse { status: 200, headers: vec![], body: vec![1; 3] };
            Some((1, Outcome::Responded(response)))
        }
        Call::RunWorkflow(child) => Some((1, Outcome::Value(child.input.clone()))),
        Call::StartWorkflow(child) => Some((1, Outcome::Started(child.id.clone().unwrap()))),
        Call::ContinueAsNew { .. } => Some((1, Outcome::Failed(Failure::new(kind::HISTORY_LIMIT, "no")))),
    }
}
