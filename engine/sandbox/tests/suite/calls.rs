//! The sandbox as well-behaved guests see it: each durable call, concurrency, cancellation, clocks, random numbers and
//! output.

use crate::support::{BEGAN, ample, json, program, run, step, workflow};
use cerebelum_history::{Call, Delivery, Entry, Level, Outcome, Request, Timestamp};

#[tokio::test]
async fn calls_in_sequence_are_numbered_from_one() {
    let ran = run(workflow("sequential", "3")).await;
    assert_eq!(ran.output(), "3");
    let requests = ran.requests();
    let ordinals: Vec<u32> = requests
        .iter()
        .map(|request| match request {
            Request::Call(ordinal, Call::Step(step, _)) if step.step == "a" => *ordinal,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ordinals, [1, 2, 3]);
    assert_eq!(ran.turns.len(), 4, "one turn per delivery");
}

#[tokio::test]
async fn l01_an_outcome_is_never_there_at_the_first_poll() {
    // If the outcome were ready at once, `a` would be in the list before `other`.
    assert_eq!(run(workflow("join", "1")).await.output(), "\"other,a,b\"");
}

#[tokio::test]
async fn the_loser_of_a_race_is_dropped_at_a_fixed_place() {
    let ran = run(workflow("race", "1")).await;
    assert_eq!(ran.output(), "\"timer\"");
    assert_eq!(ran.drops(), [1]);
    let after_delivery = &ran.turns[1].requests;
    assert!(matches!(after_delivery[..], [Request::Drop(1), Request::Call(3, _)]), "{after_delivery:?}");
}

#[tokio::test]
async fn spawned_tasks_run_and_are_let_go_at_the_end_without_a_word() {
    let ran = run(workflow("spawn", "1")).await;
    assert_eq!(ran.output(), "\"s1=true,s2=true,s3=true\"");
    assert_eq!(ran.drops(), [0; 0]);
}

#[tokio::test]
async fn a_guest_that_lowers_calls_synchronously_just_blocks() {
    let ran = run(workflow("blocking", "5")).await;
    assert_eq!(ran.output(), "10");
    assert_eq!(ran.calls(), 5);
}

#[tokio::test]
async fn a_thousand_calls_may_be_open() {
    let ran = run(workflow("many", "1000")).await;
    assert_eq!(ran.turns[0].requests.len(), 1000);
    assert_eq!(ran.turns.len(), 1001);
    let expected: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    assert_eq!(ran.output(), format!("[{}]", expected.join(",")));
}

#[tokio::test]
async fn ten_thousand_calls_may_be_open_and_no_more() {
    let ran = run(workflow("many", "10000")).await;
    assert_eq!(ran.turns[0].requests.len(), 10_000);
    let ran = run(workflow("many", "10001")).await;
    assert_eq!(ran.failure().kind, "call-limit");
}

#[tokio::test]
async fn l01_a_guest_that_yields_is_not_quiescent() {
    let ran = run(workflow("yields", "20")).await;
    assert_eq!(ran.output(), "190");
    assert_eq!(ran.turns.len(), 21);
}

#[tokio::test]
async fn a_cancelled_call_is_told_so_at_once() {
    let ran = run(workflow("cancel", "1")).await;
    assert_eq!(ran.output(), "\"cancelled\"");
    assert!(matches!(ran.turns[0].requests[..], [Request::Call(1, _), Request::Drop(1), Request::Call(2, _)]));
}

#[tokio::test]
async fn every_call_reaches_the_engine_and_every_outcome_the_guest() {
    let ran = run(workflow("all-calls", "1")).await;
    assert_eq!(ran.output(), "\"slept 1 1 {} by ann \\\"signal\\\" 1 child-1 history-limit\"");
    assert_eq!(ran.calls(), 8);
    assert!(matches!(ran.requests()[3], Request::Call(4, Call::Approval(asked)) if asked.timeout_ms == Some(9)));
}

#[tokio::test]
async fn nonsense_is_refused_at_once_and_takes_no_ordinal() {
    let ran = run(workflow("refusals", "1")).await;
    let invalid = "invalid-argument";
    let expected =
        format!("ok {invalid} {invalid} {invalid} output-too-large {invalid} {invalid} {invalid} {invalid} 0");
    assert_eq!(ran.output(), format!("\"{expected}\""));
    assert_eq!(ran.requests(), [&Request::Call(0, Call::Sleep { duration_ms: 0 }); 0]);
}

#[tokio::test]
async fn only_steps_fetch() {
    let ran = run(step("fetch", "1")).await;
    assert_eq!(ran.output(), "[200,3]");
    assert!(matches!(ran.requests()[0], Request::Call(1, Call::Fetch(request)) if request.body == [1, 2, 255]));
    let refused = run(workflow("fetch", "1")).await;
    assert_eq!(refused.failure().kind, "not-granted");
    assert_eq!(refused.calls(), 0);
}

#[tokio::test]
async fn only_workflows_set_attributes_and_continue_as_new() {
    let ran = run(workflow("attributes", "7")).await;
    let region = Request::SetAttribute(1, "region".into(), json("\"fra1\""));
    let value = Request::SetAttribute(2, "value".into(), json("7"));
    assert_eq!(ran.requests(), [&region, &value]);
    assert_eq!(run(workflow("attributes", "[7]")).await.failure().kind, "invalid-argument");
    assert_eq!(run(step("attributes", "7")).await.failure().kind, "not-granted");
    assert_eq!(run(step("continue", "7")).await.failure().kind, "not-granted");
}

#[tokio::test]
async fn a_guest_knows_where_it_is() {
    let begin = workflow("context", "1");
    let key = begin.idempotency_key.clone();
    assert_eq!(run(begin).await.output(), format!("\"e-1 w None 1 1 {key}\""));
}

#[tokio::test]
async fn clocks_show_the_time_of_the_last_delivery() {
    let ran = run(workflow("chance", "1")).await;
    assert!(ran.output().contains(&format!(",{BEGAN},{BEGAN},")), "{}", ran.output());
}

#[tokio::test]
async fn blocking_sleep_is_a_durable_sleep() {
    let ran = run(workflow("thread-sleep", "1500")).await;
    assert_eq!(ran.output(), "[1500,1500]");
    assert_eq!(ran.requests(), [&Request::Call(1, Call::Sleep { duration_ms: 1500 })]);
}

#[tokio::test]
async fn the_clock_never_goes_back() {
    let mut guest = program().await.start(workflow("thread-sleep", "1500"), ample()).await.unwrap();
    guest.turn(None).await.unwrap();
    let early = Delivery { ordinal: 1, outcome: Outcome::Slept, clock: Timestamp(BEGAN - 5) };
    let turn = guest.turn(Some(early)).await.unwrap();
    // Woken too early, the guest waits for the rest: its clock has not moved.
    assert_eq!(turn.requests, [Request::Call(2, Call::Sleep { duration_ms: 1500 })]);
}

#[tokio::test]
async fn output_becomes_log_lines() {
    let ran = run(workflow("print", "1")).await;
    assert_eq!(ran.logs(), ["info hello world", "warn careful", "error wrong", "warn no end"]);
}

#[tokio::test]
async fn progress_is_state_the_last_one_of_a_turn_wins() {
    let ran = run(workflow("progress", "1")).await;
    assert_eq!(
        ran.turns[0].requests,
        [Request::Progress(100, "done".into()), Request::Log(Level::Info, "between".into())]
    );
}

#[tokio::test]
async fn a_returned_failure_is_kept_within_limits() {
    let ran = run(workflow("fail", "1")).await;
    let failure = ran.failure();
    assert_eq!((failure.kind.as_str(), failure.message.len(), failure.retryable), ("no-luck", 16 << 10, true));
    assert_eq!(failure.details, Some(json("\"{\"")));
}

#[tokio::test]
async fn a_delivery_for_a_dropped_call_changes_nothing() {
    let mut guest = program().await.start(workflow("race", "1"), ample()).await.unwrap();
    guest.turn(None).await.unwrap();
    let deliver = |ordinal, outcome| Some(Delivery { ordinal, outcome, clock: Timestamp(BEGAN + 9) });
    let turn = guest.turn(deliver(2, Outcome::Slept)).await.unwrap();
    assert_eq!(turn.requests[0], Request::Drop(1));
    let turn = guest.turn(deliver(1, Outcome::Value(json("1")))).await.unwrap();
    assert_eq!((turn.requests.len(), turn.end), (0, None));
    let turn = guest.turn(deliver(3, Outcome::Value(json("1")))).await.unwrap();
    assert_eq!(turn.end, Some(Ok(json("\"timer\""))));
}

#[tokio::test]
async fn outcomes_that_do_not_belong_here_are_the_engines_trouble() {
    use cerebelum_sandbox::HostError;
    let mut guest = program().await.start(workflow("sequential", "1"), ample()).await.unwrap();
    guest.turn(None).await.unwrap();
    let deliver = |ordinal, outcome| Some(Delivery { ordinal, outcome, clock: Timestamp(BEGAN) });
    assert_eq!(guest.turn(deliver(1, Outcome::Slept)).await, Err(HostError::WrongOutcome(1)));
    assert_eq!(guest.turn(deliver(7, Outcome::Slept)).await, Err(HostError::UnknownCall(7)));
    assert!(guest.turn(deliver(1, Outcome::Value(json("1")))).await.unwrap().end.is_some());
    assert_eq!(guest.turn(None).await, Err(HostError::Ended));
}

#[tokio::test]
async fn a_component_describes_itself() {
    let program = program().await;
    let manifest = program.manifest();
    assert_eq!((manifest.sdk.as_str(), manifest.hosts.as_slice()), ("test", &["api.example.com".to_owned()][..]));
    let echo = manifest.steps.iter().find(|step| step.name == "echo").unwrap();
    assert_eq!(echo.options.timeout_ms, Some(5));
    assert!(matches!(workflow("x", "1").entry, Entry::Workflow(name) if name == "x"));
}
