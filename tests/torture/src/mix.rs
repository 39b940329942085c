//! The executions of a run: examples and test workflows, with the deeds of people and the expected results.

use std::time::Duration;

use serde_json::{Value, json};

use test_programs::DeterministicRng;

/// A planned execution.
#[derive(Debug, Clone)]
pub(crate) struct PlannedExecution {
    /// Its id, and the name of its world in the fake cloud.
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    pub(crate) input: Value,
    /// The deeds of people, in this order.
    pub(crate) deeds: Vec<Deed>,
    pub(crate) expect: Expect,
}

/// Something that a person does some time after the start.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    pub(crate) after: Duration,
    pub(crate) what: What,
}

/// An action of a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// Approves, for this share of users.
    Approve { percent: u64 },
    /// Rejects.
    Reject { reason: String },
    /// Sends a signal with the number.
    Signal { name: String, number: u64 },
    /// Cancels the execution.
    Cancel,
    /// Pauses it.
    Pause,
    /// Resumes it after the pause.
    GoOn,
    /// Once it has failed: repairs the cause and resumes it.
    Mend,
}

/// The expected result.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    /// This output.
    Output(Value),
    /// The numbers of the two mails.
    Mails,
    /// The same as a list.
    NumberedMails,
    /// The droplet's number, address and banner.
    Droplet,
    /// The build's number, or the build's own failure.
    Build { fails: bool },
    /// The certificate's number.
    Certificate,
    /// Published, rejected or expired, according to the answer that the person got.
    Decision { percent: Option<u64>, reason: Option<String> },
    /// The number of requests to the cloud; in place, also the number of checks.
    Looks { ready_at: u64, in_place: bool },
    /// The number of tries.
    Tries { failures: u64 },
    /// The faster one of the two mirrors.
    Mirror,
    /// Cancelled, after its clean-up.
    CleanedUp,
    /// No output, and two log lines, each written once.
    TwoLines,
}

type Case = fn(&mut DeterministicRng, &str) -> (&'static str, Value, Vec<Deed>, Expect);

/// Each case is drawn as often as it appears here.
const CASES: &[Case] = &[
    fan_out,
    fan_out,
    paused,
    mirrors,
    reminders,
    reminders,
    droplet,
    droplet,
    build,
    certificate,
    decision,
    decision,
    posts,
    posts_at_once,
    naps,
    naps,
    naps_in_a_step,
    naps_in_a_step,
    sleeper,
    looks,
    looks_in_place,
    retrying,
    tries,
    race,
    asking,
    listening,
    family,
    countdown,
    nested,
    two_lines,
    cleaning_up,
    gated,
    parallel,
    python_steps,
    python_hundred,
    python_mails,
    python_mails,
];

/// The execution of this number.
pub(crate) fn plan(seed: u64, number: u64, cloud: &str) -> PlannedExecution {
    let mut chance = DeterministicRng::of(seed, number);
    let id = format!("t{number}");
    let case = CASES[chance.index(CASES.len())];
    let (workflow, input, deeds, expect) = case(&mut chance, &format!("{cloud}/of/{id}"));
    PlannedExecution { id, workflow, input, deeds, expect }
}

fn deed(after: Duration, what: What) -> Deed {
    Deed { after, what }
}

fn fan_out(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let parts = chance.between(3, 16);
    let output = json!((1..=parts).collect::<Vec<_>>());
    ("fan-out/fan_out", json!({"base_url": base_url, "parts": parts}), vec![], Expect::Output(output))
}

fn mirrors(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (first, second) = (chance.between(200, 3_000), chance.between(200, 3_000));
    let input = json!({"base_url": base_url, "first_ms": first, "second_ms": second});
    ("fan-out/race", input, vec![], Expect::Mirror)
}

fn reminders(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let input = json!({"base_url": base_url, "email": "ada@example.com", "sleep_ms": chance.between(200, 3_000)});
    ("reminders/reminders", input, vec![], Expect::Mails)
}

fn droplet(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (poll, ssh, sleep) = (chance.between(50, 700), chance.between(50, 500), chance.between(200, 2_000));
    let input = json!({"base_url": base_url, "name": "web", "poll_ms": poll, "ssh_delay_ms": ssh, "sleep_ms": sleep});
    ("droplet-deployment/droplet_deployment", input, vec![], Expect::Droplet)
}

fn build(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let fails = chance.between(0, 2) == 0;
    let commit = if fails { "broken" } else { "c0ffee" };
    let input = json!({"base_url": base_url, "commit": commit, "poll_ms": chance.between(50, 900)});
    ("ci-build/ci_build", input, vec![], Expect::Build { fails })
}

fn certificate(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let input = json!({"base_url": base_url, "domain": "example.com", "poll_ms": chance.between(50, 900)});
    ("certificate/certificate", input, vec![], Expect::Certificate)
}

/// An approval, a rejection, no answer, or an approval at the last moment.
fn decision(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (percent, reason) = (chance.between(1, 100), "too early".to_owned());
    let yes = What::Approve { percent };
    let (timeout, deeds, percent, reason) = match chance.index(4) {
        0 => (600_000, vec![deed(chance.millis(50, 2_500), yes)], Some(percent), None),
        1 => {
            let no = What::Reject { reason: reason.clone() };
            (600_000, vec![deed(chance.millis(50, 2_500), no)], None, Some(reason))
        }
        2 => (chance.between(200, 2_500), vec![], None, None),
        _ => {
            let timeout = chance.between(300, 2_500);
            (timeout, vec![deed(Duration::from_millis(timeout - 30), yes)], Some(percent), None)
        }
    };
    let input = json!({"base_url": base_url, "version": "1.2", "timeout_ms": timeout});
    ("approval/approval", input, deeds, Expect::Decision { percent, reason })
}

fn paths(count: u64) -> Vec<String> {
    (0..count).map(|number| format!("notes/{number}")).collect()
}

fn posts(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let count = chance.between(2, 12);
    let input = json!({"base_url": base_url, "paths": paths(count)});
    ("test-guests/posts", input, vec![], Expect::Output(json!(count)))
}

/// Slow answers, so that many requests are under way at any moment.
fn posts_at_once(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let count = chance.between(2, 8);
    let slow = chance.between(50, 900);
    let paths: Vec<String> = (0..count).map(|number| format!("slow/{slow}/{number}")).collect();
    let input = json!({"base_url": base_url, "paths": paths});
    ("test-guests/posts_at_once", input, vec![], Expect::Output(json!(count)))
}

fn naps(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let naps = chance.between(1, 6);
    let input = json!({"base_url": base_url, "sleep_ms": chance.between(200, 1_500), "naps": naps});
    ("test-guests/naps", input, vec![], Expect::Output(json!(naps)))
}

/// Sleeps with a pause somewhere.
fn paused(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (workflow, input, _, expect) = naps(chance, base_url);
    let begins = chance.millis(0, 1_500);
    let deeds = vec![deed(begins, What::Pause), deed(begins + chance.millis(50, 1_500), What::GoOn)];
    (workflow, input, deeds, expect)
}

fn naps_in_a_step(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let naps = chance.between(1, 6);
    let input = json!({"base_url": base_url, "sleep_ms": chance.between(200, 1_500), "naps": naps});
    ("test-guests/naps_in_a_step", input, vec![], Expect::Output(json!(naps + 1)))
}

/// Some sleep long.
fn sleeper(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let longest = if chance.between(0, 3) == 0 { 15_000 } else { 3_000 };
    ("test-guests/sleeper", json!(chance.between(200, longest)), vec![], Expect::Output(json!("awake")))
}

fn lookout(chance: &mut DeterministicRng, base_url: &str) -> (u64, Value) {
    let ready_at = chance.between(1, 8);
    let every = chance.between(20, 500);
    (ready_at, json!({"base_url": base_url, "ready_at": ready_at, "every_ms": every, "attempts": 100}))
}

fn looks(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (ready_at, input) = lookout(chance, base_url);
    ("test-guests/polling", input, vec![], Expect::Looks { ready_at, in_place: false })
}

fn looks_in_place(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (ready_at, input) = lookout(chance, base_url);
    ("test-guests/polling_in_place", input, vec![], Expect::Looks { ready_at, in_place: true })
}

fn retrying(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let input = json!({"base_url": base_url, "failures": chance.between(1, 5), "delay_ms": chance.between(50, 700)});
    ("test-guests/retrying", input, vec![], Expect::Output(json!(200)))
}

fn tries(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let failures = chance.between(1, 5);
    let input = json!({"base_url": base_url, "failures": failures, "delay_ms": chance.between(50, 300)});
    ("test-guests/retrying_in_place", input, vec![], Expect::Tries { failures })
}

fn race(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let input = json!({"base_url": base_url, "sleep_ms": chance.between(400, 1_500), "naps": 1});
    ("test-guests/race", input, vec![], Expect::Output(json!("timeout")))
}

fn asking(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let yes = deed(chance.millis(50, 2_000), What::Approve { percent: 1 });
    let input = json!({"base_url": base_url, "path": ""});
    ("test-guests/asking_in_a_step", input, vec![yes], Expect::Output(json!("torture")))
}

fn listening(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let names: Vec<String> = (0..chance.between(1, 4)).map(|number| format!("s{number}")).collect();
    let numbers: Vec<u64> = names.iter().map(|_| chance.bits() >> 12).collect();
    let mut deeds = Vec::new();
    for (name, number) in names.iter().zip(&numbers) {
        let signal = What::Signal { name: name.clone(), number: *number };
        deeds.push(deed(chance.millis(0, 2_500), signal));
    }
    ("test-guests/listening", json!({"names": names}), deeds, Expect::Output(json!(numbers)))
}

fn family(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let (children, awaited) = (chance.between(1, 4), chance.between(0, 2) > 0);
    let output = if awaited { (1..=children).sum() } else { children };
    let input = json!({"children": children, "awaited": awaited});
    ("test-guests/family", input, vec![], Expect::Output(json!(output)))
}

fn countdown(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let from = chance.between(1, 5);
    ("test-guests/countdown", json!(from), vec![], Expect::Output(json!(from + 1)))
}

fn nested(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let number = chance.between(0, 1_000);
    ("test-guests/nested", json!(number), vec![], Expect::Output(json!(2 * number + 4)))
}

fn two_lines(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    ("test-guests/telling", json!(chance.between(200, 1_500)), vec![], Expect::TwoLines)
}

fn cleaning_up(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let cancel = deed(chance.millis(50, 3_000), What::Cancel);
    ("test-guests/cleaning_up", json!(base_url), vec![cancel], Expect::CleanedUp)
}

fn gated(_: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let mend = deed(Duration::ZERO, What::Mend);
    ("test-guests/gated", json!(base_url), vec![mend], Expect::Output(json!("through")))
}

fn parallel(chance: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let steps = chance.between(2, 25);
    let sum: u64 = (1..=steps).sum();
    ("test-guests/parallel", json!({"steps": steps}), vec![], Expect::Output(json!(sum)))
}

/// Parallel steps in Python, one of which fails.
fn python_steps(_: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let output = json!([[1, 20, 3, 5], 4, "StepError", "ValueError"]);
    ("test-python/gathers", json!({}), vec![], Expect::Output(output))
}

/// A hundred steps one after the other in Python, within two timeouts each.
fn python_hundred(_: &mut DeterministicRng, _: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    ("test-python/hundred", json!({}), vec![], Expect::Output(json!(100)))
}

/// Two mails with a pause between them, in a step in Python.
fn python_mails(chance: &mut DeterministicRng, base_url: &str) -> (&'static str, Value, Vec<Deed>, Expect) {
    let input = json!({"base_url": base_url, "email": "ada@example.com", "pause_ms": chance.between(1_000, 6_000)});
    ("python-reminders/reminders", input, vec![], Expect::NumberedMails)
}
