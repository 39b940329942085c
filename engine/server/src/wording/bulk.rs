//! Bulk jobs in words.

use cerebelum_history::brief;

use super::plain;
use crate::json::rfc3339;
use crate::proto;

/// Of a filter, so many letters are shown.
const MATCHING_LETTERS_MAX: usize = 120;

/// What a job does to each execution.
#[must_use]
pub fn bulk_operation(job: &proto::BulkJob) -> String {
    match &job.signal {
        Some(signal) => format!("signal {}", plain(&signal.name)),
        None => job.operation.clone(),
    }
}

/// The executions that match a filter.
#[must_use]
pub fn matching(filter: &proto::ExecutionFilter) -> String {
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let started = |word: &str, at: &Option<_>| at.as_ref().map(|at| format!("started {word} {}", rfc3339(at)));
    let mut attributes: Vec<_> = filter.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    attributes.sort();
    let before = [
        filter.status.clone(),
        filter.workflow.clone(),
        named("waits for", &filter.waits_for),
        named("failure", &filter.failure),
        named("child of", &filter.parent),
        named("id begins with", &filter.id_prefix),
    ];
    let after = [started("since", &filter.since), started("before", &filter.until)];
    let parts: Vec<_> = before.into_iter().chain(attributes.into_iter().map(Some)).chain(after).flatten().collect();
    match parts.is_empty() {
        true => "all".to_owned(),
        false => plain(&brief(&parts.join(", "), MATCHING_LETTERS_MAX)),
    }
}

/// How many executions a job has still to touch, as far as that is known.
#[must_use]
pub fn bulk_left(job: &proto::BulkJob) -> u64 {
    match job.state.as_str() {
        "running" => job.matched.saturating_sub(job.done + job.refused),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_in_one_order_and_without_control_characters() {
        let attributes = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "\"\u{1b}\"".to_owned())];
        let filter = proto::ExecutionFilter {
            status: Some("failed".into()),
            workflow: Some("shop/order".into()),
            attributes: attributes.into(),
            parent: Some("o-1".into()),
            failure: Some("http".into()),
            until: Some(prost_types::Timestamp { seconds: 7, nanos: 0 }),
            ..Default::default()
        };
        let shown = r#"failed, shop/order, failure http, child of o-1, a="\u{1b}", b=2, started before 1970-01-01T00:00:07.000Z"#;
        assert_eq!(matching(&filter), shown);
        assert_eq!(matching(&proto::ExecutionFilter::default()), "all");
        let long = proto::ExecutionFilter { workflow: Some("ü".repeat(500)), ..Default::default() };
        assert_eq!(matching(&long), "ü".repeat(MATCHING_LETTERS_MAX) + "…");
    }
}
