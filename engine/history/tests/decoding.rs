//! Damaged text is never more than an error: every decoder of this crate answers to any text, with a value that can be
//! used and written again, or with the reason why there is none.
//!
//! The store finds damage by its checksums before a decoder sees it. This is what holds behind them.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod world;

use std::collections::BTreeSet;

use cerebelum_history::{
    Approval, ApprovalRequest, CallName, Cause, Digest, Event, EventData, ExecutionId, Failure, HttpResponse, Json,
    Message, OpenCall, PollPolicy, RULES, Scope, SpanContext, StepCall, Timestamp, TraceRecord, Unreadable, WaitFilter,
    WorkflowCall, failed_call, reopening,
};
use proptest::prelude::*;
use proptest::sample::Index;
use test_programs::programs;
use world::life::{Life, Weather};

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("CEREBELUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// One event of every kind.
fn every_kind() -> Vec<EventData> {
    let failure = || Failure { details: Some(json(r#"{"type":"E"}"#)), ..Failure::retryable("k", "\u{0} é \\ \"") };
    let step = || StepCall { step: "shop/charge".to_owned(), input: json("9007199254740993") };
    let child = || WorkflowCall { workflow: "w".to_owned(), input: json("null"), id: "a-1".parse().ok() };
    let id = || "order-7.1".parse::<ExecutionId>().unwrap();
    let schema = Some(json(r#"{"type":"object"}"#));
    let request =
        ApprovalRequest { kind: "manual".into(), title: "ok?".into(), data: json("[]"), schema, timeout_ms: Some(9) };
    let response = HttpResponse { status: 200, headers: vec![("a".into(), "b".into())], body: vec![0, 255] };
    let policy = PollPolicy { interval_ms: 1_000, max_attempts: 3, timeout_ms: None };
    let ordinal = 1;
    vec![
        EventData::ExecutionStarted { workflow: "w".into(), input: json(r#"{"a":"\u0000"}"#), rules: RULES },
        EventData::ExecutionCompleted { output: json("1e400") },
        EventData::ExecutionFailed { failure: failure() },
        EventData::ExecutionCancelled { failure: failure() },
        EventData::ExecutionContinued { input: json("0") },
        EventData::CancelRequested { until: Some(Timestamp(u64::MAX)) },
        EventData::ExecutionPaused,
        EventData::ExecutionResumed,
        EventData::ExecutionReopened { ordinal },
        EventData::ExecutionParked { reason: "diverged: …".into() },
        EventData::StepStarted { ordinal, call: step(), component: Some(Digest::of(b"it")) },
        EventData::StepRetried { ordinal, attempt: 1, failure: failure(), delay_ms: 7 },
        EventData::StepCompleted { ordinal, output: Some(json("[[1]]")) },
        EventData::StepFailed { ordinal, failure: failure(), attempt: 2 },
        EventData::SleepStarted { ordinal, duration_ms: u64::MAX },
        EventData::SleepCompleted { ordinal },
        EventData::PollStarted { ordinal, check: step(), policy, component: None },
        EventData::PollCompleted { ordinal, value: None, attempts: 3 },
        EventData::PollFailed { ordinal, failure: failure(), attempts: 3 },
        EventData::ApprovalRequested { ordinal, id: "a".into(), request },
        EventData::ApprovalReceived {
            ordinal,
            approval: Approval { data: json("true"), by: "grace".into(), comment: Some("fine".into()) },
        },
        EventData::ApprovalRejected { ordinal, by: "grace".into(), reason: "no".into() },
        EventData::ApprovalTimedOut { ordinal },
        EventData::SignalAwaited { ordinal, name: "go".into(), timeout_ms: Some(1) },
        EventData::SignalReceived { ordinal, data: Some(json(r#""x""#)) },
        EventData::SignalTimedOut { ordinal },
        EventData::FetchStarted { ordinal, method: "POST".into(), url: "http://a/".into(), digest: "0a".into() },
        EventData::FetchCompleted { ordinal, response: Some(response), status: None },
        EventData::FetchCompleted { ordinal, response: None, status: Some(503) },
        EventData::FetchFailed { ordinal, failure: failure() },
        EventData::ChildStarted { ordinal, call: child(), id: id(), awaited: true },
        EventData::ChildAccepted { ordinal, id: id() },
        EventData::ChildCompleted { ordinal, output: None },
        EventData::ChildFailed { ordinal, failure: failure() },
        EventData::AttributeSet { ordinal, name: "state".into(), value: json("1") },
        EventData::CallCancelled { ordinal, cause: Cause::Dropped },
        EventData::CallRefused { ordinal, digest: "0b".into(), failure: failure() },
    ]
}

fn events_of_every_kind() -> Vec<Event> {
    let scopes = ["", "1", "1.2", "4#7", "4#7.1"];
    let event = |(number, data): (usize, EventData)| Event {
        at: Timestamp(1_000 + number as u64 / 3),
        scope: Scope::from_text(scopes[number % scopes.len()]),
        data,
    };
    every_kind().into_iter().enumerate().map(event).collect()
}

/// A change of some bytes of a text.
#[derive(Debug, Clone)]
enum Damage {
    /// One bit is another one.
    Flip(Index, u8),
    /// A byte is another one.
    Set(Index, u8),
    /// The text ends here.
    Cut(Index),
    /// A piece of the text is missing.
    Lose(Index, Index),
    /// A piece of the text stands at another place as well.
    Splice(Index, Index, Index),
    /// Something stands there that a decoder could trip over.
    Insert(Index, &'static str),
}

/// What JSON decoders have tripped over: depth, large numbers, halves of characters, repeated and unknown members.
const TRAPS: [&str; 16] = [
    "[[[[[[[[",
    "{\"f\":",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    "\u{0}",
    "-",
    "1e999",
    "18446744073709551616",
    "NaN",
    "null",
    ",\"o\":2",
    "\"s\":\"x\",",
    "\"s\":\"1..2\",",
    "]",
];

fn damages() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        at().prop_map(Damage::Cut),
        (at(), at()).prop_map(|(from, to)| Damage::Lose(from, to)),
        (at(), at(), at()).prop_map(|(from, to, at)| Damage::Splice(from, to, at)),
        (at(), prop::sample::select(&TRAPS[..])).prop_map(|(at, trap)| Damage::Insert(at, trap)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let range = |a: &Index, b: &Index| {
            let (a, b) = (a.index(length), b.index(length));
            a.min(b)..a.max(b)
        };
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Lose(from, to) => drop(bytes.drain(range(from, to))),
            Self::Splice(from, to, at) => {
                let piece = bytes[range(from, to)].to_vec();
                let at = at.index(length);
                drop(bytes.splice(at..at, piece));
            }
            Self::Insert(at, trap) => {
                let at = at.index(length);
                drop(bytes.splice(at..at, trap.bytes()));
            }
        }
    }
}

fn damaged(text: &str, damages: &[Damage]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    damages.iter().for_each(|damage| damage.apply(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes a text as events. What was decoded can be written and read again, and taken apart.
fn check_events(text: &str) {
    let Ok(events) = Event::decode(text) else { return };
    assert_eq!(Event::decode(&Event::encode(&events)).as_ref(), Ok(&events), "{text}");
    for Event { scope, data, .. } in &events {
        assert_eq!(scope.call().is_none(), scope.is_root(), "{scope}");
        let (_, _, _) = (scope.poll(), scope.depth(), data.weight());
        assert!(!data.kind().is_empty(), "{text}");
        assert!(Json::parse(data.fields().as_str()).is_ok(), "{text}");
        assert!(!data.clone().without_values().has_value(), "{text}");
    }
    let (_, _) = (reopening(&events), failed_call(&events));
}

/// Decodes a text as everything else that is stored as text.
fn check_others(text: &str) {
    if let Ok(call) = OpenCall::decode(text) {
        OpenCall::decode(&call.encode()).unwrap();
    }
    if let Ok(name) = text.parse::<CallName>() {
        assert!(name.step_scope().call().is_some() && name.scope.call().is_none() == name.scope.is_root(), "{text}");
    }
    if let Ok(message) = serde_json::from_str::<Message>(text) {
        let written = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&written).unwrap(), message, "{text}");
    }
    if let Ok(record) = serde_json::from_str::<TraceRecord>(text) {
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TraceRecord>(&written).unwrap(), record, "{text}");
    }
    if let Ok(scope) = serde_json::from_str::<Scope>(text) {
        assert_eq!(scope.call().is_none(), scope.is_root());
    }
    let _ = (text.parse::<ExecutionId>(), text.parse::<SpanContext>(), text.parse::<WaitFilter>(), Json::parse(text));
}

fn check(text: &str) {
    check_events(text);
    check_others(text);
}

/// Texts of everything but events.
fn other_texts() -> Vec<String> {
    let call = || "4#7.1".parse::<CallName>().unwrap();
    let cause = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<SpanContext>().ok();
    let approval = Approval { data: json("{}"), by: "grace".into(), comment: None };
    let messages = [
        Message::Signal { name: "go".into(), data: json("[1,{}]"), cause },
        Message::Approved { call: call(), id: "a".into(), approval, cause },
        Message::Cancel { at: Timestamp(7) },
        Message::Terminate,
    ];
    let record = TraceRecord { caller: cause, state: Some("a=b".into()), waking: 3, ..TraceRecord::default() };
    let mut texts: Vec<String> = messages.iter().map(|message| serde_json::to_string(message).unwrap()).collect();
    texts.push(serde_json::to_string(&record).unwrap());
    texts.push(serde_json::to_string(&call().scope).unwrap());
    texts.extend([call().to_string(), cause.unwrap().to_string(), "signal:paid".to_owned(), "order-7.1".to_owned()]);
    texts
}

#[test]
fn every_kind_of_event_is_written_and_read_without_a_change() {
    let kinds: BTreeSet<String> = every_kind().iter().map(EventData::kind).collect();
    assert_eq!(kinds.len(), every_kind().len() - 1, "one kind stands there twice");
    let source = include_str!("../src/event.rs");
    let body = source.split("pub enum EventData {").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
    let variants =
        body.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
    let variants: BTreeSet<String> =
        variants.map(|line| line.chars().take_while(|c| c.is_alphanumeric()).collect()).collect();
    assert_eq!(kinds, variants, "the samples of this file lack a kind");
    let events = events_of_every_kind();
    assert_eq!(Event::decode(&Event::encode(&events)).unwrap(), events);
    check(&Event::encode(&events));
}

/// Every text that is one bit away, and every beginning.
#[test]
fn a_bit_that_flipped_and_a_text_that_was_cut_anywhere_are_errors_or_other_values() {
    let texts = events_of_every_kind().into_iter().map(|event| Event::encode([&event]));
    for text in texts.chain(other_texts()) {
        for at in 0..text.len() {
            if let Some(beginning) = text.get(..at) {
                check(beginning);
            }
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                check(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn a_scope_that_is_not_a_path_of_ordinals_is_damage() {
    let of = |scope: &str| Event::decode(&format!(r#"[{{"t":1,"s":"{scope}","f":"ExecutionPaused"}}]"#));
    for scope in ["", "1", "1.2.3", "4#7", "4#7.1", "4294967295"] {
        assert_eq!(of(scope).map(|events| events[0].scope.as_str().to_owned()), Ok(scope.to_owned()));
    }
    for damaged in
        ["x", ".", "1.", ".1", "1..2", "#7", "4#", "4#7#8", "+1", "01", " 1", "-1", "4294967296", "1#x.2", "١"]
    {
        assert!(matches!(of(damaged), Err(Unreadable::Damaged(_))), "{damaged}");
        assert!(format!("{damaged}.1").parse::<CallName>().is_err(), "{damaged}");
    }
}

/// A text of a megabyte costs about as much as it is long, whatever it says. (Values are at most a megabyte.) Were any
/// of these quadratic, it would take hours, and were any recursive, the stack would end.
#[test]
fn large_texts_are_decoded_in_bounded_time() {
    const BYTES: usize = 1 << 20;
    let deep = |open: &str, inner: &str| open.repeat(BYTES / open.len()) + inner;
    let event = |value: &str| format!(r#"[{{"t":1,"f":{{"ExecutionCompleted":{{"output":{value}}}}}}}]"#);
    for value in [
        deep("[", ""),
        deep("[", "1") + &"]".repeat(BYTES),
        deep("{\"a\":", ""),
        deep("9", ""),
        deep("\\", "\""),
        format!("\"{}\"", "\\ud800".repeat(BYTES / 6)),
        format!("\"{}\"", "é".repeat(BYTES / 2)),
        format!("[{}0]", deep("0,", "")),
        format!("1{}", deep("0", "e9")),
    ] {
        check(&value);
        check(&event(&value));
    }
    check(&format!("[{}]", [r#"{"t":1,"f":"ExecutionPaused"}"#; BYTES / 30].join(",")));
    check(&format!(r#"[{{"t":1,"s":"{}1","f":"ExecutionPaused"}}]"#, "1.".repeat(BYTES / 2)));
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn damaged_events_are_errors_or_other_events(
        first: Index,
        count in 1_usize..8,
        damages in prop::collection::vec(damages(), 1..5),
    ) {
        let events = events_of_every_kind();
        let first = first.index(events.len());
        check(&damaged(&Event::encode(events.iter().skip(first).take(count)), &damages));
    }

    #[test]
    fn other_damaged_texts_are_errors_or_other_values(
        which: Index,
        damages in prop::collection::vec(damages(), 1..5),
    ) {
        check(&damaged(which.get::<String>(&other_texts()), &damages));
    }

    #[test]
    fn any_text_is_answered(text: String, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&text);
        check(&String::from_utf8_lossy(&bytes));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// The chunks and the open calls of executions that lived, damaged.
    #[test]
    fn damaged_rows_of_executions_are_errors_or_other_values(
        program in programs(true),
        seed: u64,
        at: Index,
        cut: Index,
        damages in prop::collection::vec(prop::collection::vec(damages(), 1..5), 20),
    ) {
        let mut life = Life::new(&program, seed, Weather::default());
        life.live();
        let whole = &life.store.events;
        let (_, _, midway) = at.get(&life.trail);
        let chunk = whole.chunks(64).nth(cut.index(whole.len().div_ceil(64))).unwrap_or_default();
        let chunk = Event::encode(chunk);
        check(&chunk);
        for damages in &damages {
            check(&damaged(&chunk, damages));
            for open in midway.open.values() {
                check(&damaged(open, damages));
            }
        }
    }
}
