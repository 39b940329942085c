//! Checks the histories that the command line shows, whatever happened to the engines that wrote them.

use cerebelum_history::Event;
use serde_json::{Map, Value, json};

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
    let (kind, scope, time) = (take("kind"), take("scope"), take("time"));
    let time: jiff::Timestamp = time.as_str().and_then(|time| time.parse().ok()).expect("an event has a time");
    let _ = take("position");
    if let Some(ordinal) = fields.remove("ordinal") {
        fields.insert("o".to_owned(), ordinal);
    }
    let kind = kind.as_str().expect("an event has a kind");
    // An event without fields is stored as its kind alone, unless it may have some.
    let data = [json!({ kind: fields }), json!(kind)];
    let texts = data.map(|data| json!([{"t": time.as_millisecond(), "s": scope, "f": data}]).to_string());
    let decoded = texts.iter().find_map(|text| Event::decode(text).ok()?.pop());
    decoded.unwrap_or_else(|| panic!("this is not an event: {shown:#}"))
}
