//! Checks the histories that the command line shows, whatever happened to the engines that wrote them.

use cerebelum_history::{Event, Scope, Timestamp};
use serde_json::{Map, Value};

/// Asserts that a history has one writer: no gap in its positions, and no law of histories is broken.
///
/// # Panics
/// When one of these does not hold.
pub fn assert_one_writer(events: &[Value]) {
    let positions: Vec<u64> = events.iter().filter_map(|event| event["position"].as_u64()).collect();
    let gapless: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(positions, gapless, "positions have gaps or repeat: {events:#?}");
    let stored: Vec<Event> = events.iter().map(stored).collect();
    assert_eq!(test_programs::broken_law(&stored), None, "{events:#?}");
}

/// The event as it was stored, from what is shown of it.
fn stored(shown: &Value) -> Event {
    let mut fields: Map<String, Value> = shown.as_object().expect("an event is an object").clone();
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (kind, scope, time, _) = (take("kind"), take("scope"), take("time"), take("position"));
    let time: jiff::Timestamp = time.as_str().and_then(|time| time.parse().ok()).expect("an event has a time");
    let at = Timestamp(u64::try_from(time.as_millisecond()).expect("events are younger than 1970"));
    let scope = Scope::from_text(scope.as_str().expect("an event has a scope"));
    let kind = kind.as_str().expect("an event has a kind");
    Event::from_shown(at, &scope, kind, fields).unwrap_or_else(|| panic!("this is not an event: {shown:#}"))
}
