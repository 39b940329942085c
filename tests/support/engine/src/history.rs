//! Properties of every history, whatever happened to the engines that wrote it.

use std::collections::HashSet;

use serde_json::Value;

/// The kinds that close a call.
const OUTCOMES: [&str; 8] =
    ["Completed", "Failed", "TimedOut", "Received", "Rejected", "Accepted", "Cancelled", "Continued"];

/// Asserts that a history has one writer: no gap, no step back in time, and at most one outcome of a call. Only for
/// executions without retries, because attempts use the same names again.
///
/// # Panics
/// When one of these does not hold.
pub fn assert_one_writer(events: &[Value]) {
    let positions: Vec<u64> = events.iter().filter_map(|event| event["position"].as_u64()).collect();
    let gapless: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(positions, gapless, "positions have gaps or repeat: {events:#?}");
    let times: Vec<&str> = events.iter().filter_map(|event| event["time"].as_str()).collect();
    assert!(times.is_sorted(), "time goes back: {events:#?}");
    let mut ended = HashSet::new();
    for event in events {
        let kind = event["kind"].as_str().unwrap_or_default();
        if OUTCOMES.iter().any(|outcome| kind.ends_with(outcome)) {
            let call = (event["scope"].to_string(), event["ordinal"].to_string());
            assert!(ended.insert(call), "two outcomes of one call: {events:#?}");
        }
    }
}
