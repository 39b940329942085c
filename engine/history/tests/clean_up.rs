//! How long clean-up may take after a cancel.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{End, EventData, ExecutionOptions, Failure, Message, Timestamp, kind};
use scene::{START, Scene, sleep};

fn cancel() -> Message {
    Message::Cancel { at: Timestamp(START) }
}

#[test]
fn l16_clean_up_that_takes_longer_than_its_grace_period_is_cut_off() {
    let mut scene = Scene::with(ExecutionOptions { cancel_grace_ms: Some(60_000), ..ExecutionOptions::default() });
    scene.begin("");
    scene.at(5_000);
    scene.say(cancel());
    scene.call("", sleep(500_000));
    scene.save();
    assert_eq!(scene.ex.due(), Some(Timestamp(START + 60_000)), "counted from the request");
    scene.reload(true);
    scene.at(59_999);
    assert_eq!(scene.ex.end(), None);
    scene.at(60_000);
    assert!(matches!(scene.ex.end(), Some(End::Cancelled(_))));
    assert_eq!(scene.history(3), ["SleepStarted 1", "CallCancelled 1", "ExecutionCancelled"]);
}

#[test]
fn l16_clean_up_has_no_time_limit_unless_the_workflow_declares_one() {
    let year = 365 * 86_400_000;
    let mut scene = Scene::new();
    scene.call("", sleep(5));
    scene.say(cancel());
    assert_eq!(scene.hears(""), ["1 failed cancelled"]);
    scene.call("", sleep(year));
    scene.save();
    scene.reload(true);
    assert!(scene.ex.options().is_cancelled());
    assert_eq!(scene.ex.due(), Some(Timestamp(START + year)), "nothing else ends it");
    scene.at(year);
    scene.begin("");
    scene.call("", sleep(5));
    scene.call("", sleep(year));
    assert_eq!(scene.hears(""), ["1 failed cancelled", "2 slept"]);
    scene.ends("", Err(Failure::new(kind::CANCELLED, "the execution was cancelled")));
    assert!(matches!(scene.ex.end(), Some(End::Cancelled(_))), "it is known to be cancelled");
}

#[test]
fn l16_executions_that_were_cancelled_before_the_limit_became_a_choice_keep_theirs() {
    let options: ExecutionOptions = serde_json::from_str(r#"{"cancel_until":60000}"#).unwrap();
    assert!(options.is_cancelled());
    let old = r#"[{"t":7,"f":{"CancelRequested":{"until":60007}}},{"t":8,"f":{"CancelRequested":{}}}]"#;
    let events = cerebelum_history::Event::decode(old).unwrap();
    let until = |at: usize| match events[at].data {
        EventData::CancelRequested { until } => until,
        _ => None,
    };
    assert_eq!((until(0), until(1)), (Some(Timestamp(60_007)), None));
}
