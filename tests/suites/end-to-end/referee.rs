//! Approvals against their timeout and against each other, over two engines: one outcome, the same for every reader
//! (L9).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{
    ApprovalsRequest, ApproveRequest, HistoryRequest, RejectRequest, StartRequest, WaitRequest,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use test_engine::{Database, Engine};
use tonic::transport::Channel;

type Client = EngineClient<Channel>;

const RACES: u32 = 1_000;
/// The number of races at once.
const AT_ONCE: usize = 100;
/// The timeout of a question, which is answered at about that time.
const TIMEOUT_MS: u64 = 400;
/// Answers are sent up to this long before the deadline, so that some come in time and some do not.
const EARLY_MS: u64 = 40;

/// The outcome of one question, the same from every source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Approved,
    Rejected,
    TimedOut,
}

/// One question, approved at one engine and rejected at the other, both when its time runs out.
async fn race(number: u32, (mut one, mut other): (Client, Client)) -> Outcome {
    let request = StartRequest {
        workflow: "asking".to_owned(),
        input: format!(r#"{{"title":"Race {number}?","timeout_ms":{TIMEOUT_MS}}}"#),
        execution_id: Some(format!("race-{number}")),
        ..StartRequest::default()
    };
    let id = one.start(request).await.unwrap().into_inner().execution_id;
    let deadline = loop {
        let asked = ApprovalsRequest { execution_id: Some(id.clone()), ..Default::default() };
        let approvals = other.approvals(asked).await.unwrap().into_inner().approvals;
        if let Some(approval) = approvals.first() {
            let at = approval.deadline.unwrap();
            break Duration::new(u64::try_from(at.seconds).unwrap(), u32::try_from(at.nanos).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let left = deadline.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    tokio::time::sleep(left.saturating_sub(Duration::from_millis(u64::from(number) % EARLY_MS))).await;
    let yes =
        ApproveRequest { id: id.clone(), data: number.to_string(), comment: None, by: format!("approver {number}") };
    let no = RejectRequest { id: id.clone(), reason: format!("no {number}"), by: format!("rejecter {number}") };
    let (mut saying_yes, mut saying_no) = (one.clone(), other.clone());
    let (yes, no) = tokio::join!(saying_yes.approve(yes), saying_no.reject(no));
    for refused in [yes.as_ref().err(), no.as_ref().err()].into_iter().flatten() {
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "the loser is told: {refused:?}");
    }
    let told = match (yes.is_ok(), no.is_ok()) {
        (true, false) => Outcome::Approved,
        (false, true) => Outcome::Rejected,
        (false, false) => Outcome::TimedOut,
        (true, true) => panic!("race {number}: both answers were taken"),
    };
    let word = match told {
        Outcome::Approved => "approved",
        Outcome::Rejected => "rejected",
        Outcome::TimedOut => "timed-out",
    };
    for refused in [yes.err(), no.err()].into_iter().flatten() {
        assert!(refused.message().contains(word), "race {number} is {told:?}, and the loser hears: {refused:?}");
    }
    assert_all_say(number, told, (&mut one, &mut other), &id).await;
    told
}

/// Checks the end, the list of approvals and the history, each at the other engine than the check before.
async fn assert_all_say(number: u32, told: Outcome, (one, other): (&mut Client, &mut Client), id: &str) {
    let ended = loop {
        let request = WaitRequest { execution_id: id.to_owned(), timeout_ms: Some(30_000) };
        let status = other.wait(request).await.unwrap().into_inner();
        if status.summary.as_ref().is_some_and(|summary| summary.ended_at.is_some()) {
            break status;
        }
    };
    let asked = ApprovalsRequest { execution_id: Some(id.to_owned()), ..Default::default() };
    let listed = one.approvals(asked).await.unwrap().into_inner().approvals;
    let request = HistoryRequest { execution_id: id.to_owned(), run: None, after: 0, follow: false };
    let events: Vec<_> = other.history(request).await.unwrap().into_inner().map(Result::unwrap).collect().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let (state, kind, failure) = match told {
        Outcome::Approved => ("approved", "ApprovalReceived", None),
        Outcome::Rejected => ("rejected", "ApprovalRejected", Some("rejected")),
        Outcome::TimedOut => ("timed-out", "ApprovalTimedOut", Some("approval-timeout")),
    };
    let states: Vec<&str> = listed.iter().map(|approval| approval.state.as_str()).collect();
    assert_eq!(states, [state], "race {number}: the list");
    let ending = if failure.is_some() { "ExecutionFailed" } else { "ExecutionCompleted" };
    assert_eq!(kinds, ["ExecutionStarted", "ApprovalRequested", kind, ending], "race {number}: the history");
    assert_eq!(ended.failure.as_ref().map(|failure| failure.kind.as_str()), failure, "race {number}: the end");
    if told == Outcome::Approved {
        let output: Value = serde_json::from_str(ended.output.as_deref().unwrap()).unwrap();
        assert_eq!(output, format!("{number} by approver {number}"));
    }
}

/// 1,000 times: the deadline coincides with an approval at one engine and a rejection at the other.
#[test]
fn l09_an_answer_and_its_timeout_race_a_thousand_times_over_two_engines() {
    let first = Engine::start(Database::Postgres);
    first.upload("test-guests");
    let second = Engine::beside(&first);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcomes: Vec<Outcome> = runtime.block_on(async {
        let first = Client::connect(first.url().to_owned()).await.unwrap();
        let second = Client::connect(second.url().to_owned()).await.unwrap();
        let races = (0..RACES).map(|number| match number % 2 {
            0 => race(number, (first.clone(), second.clone())),
            _ => race(number, (second.clone(), first.clone())),
        });
        let mut races = races.collect::<std::collections::VecDeque<_>>();
        let mut running: FuturesUnordered<_> = races.drain(..AT_ONCE).collect();
        let mut outcomes = Vec::new();
        while let Some(outcome) = running.next().await {
            outcomes.push(outcome);
            running.extend(races.pop_front());
        }
        outcomes
    });
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let counts = [Outcome::Approved, Outcome::Rejected, Outcome::TimedOut].map(count);
    eprintln!("approved, rejected, timed out: {counts:?}");
    assert_eq!(outcomes.len(), RACES as usize);
    assert!(counts.iter().all(|count| *count >= 20), "each side wins at times, or it is no race: {counts:?}");
}
