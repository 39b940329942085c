//! Bulk jobs in words.

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
    let mut parts: Vec<String> = filter.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.sort();
    parts.extend(filter.since.as_ref().map(|since| format!("started since {}", rfc3339(since))));
    parts.extend(filter.until.as_ref().map(|until| format!("started before {}", rfc3339(until))));
    parts.splice(0..0, filter.id_prefix.as_ref().map(|prefix| format!("id begins with {prefix}")));
    parts.splice(0..0, filter.parent.as_ref().map(|parent| format!("child of {parent}")));
    parts.splice(0..0, filter.failure.as_ref().map(|kind| format!("failure {kind}")));
    parts.splice(0..0, filter.waits_for.as_ref().map(|wait| format!("waits for {wait}")));
    parts.splice(0..0, filter.workflow.clone());
    parts.splice(0..0, filter.status.clone());
    match parts.is_empty() {
        true => "all".to_owned(),
        false => {
            let (whole, mut shown) = (parts.join(", "), String::new());
            shown.extend(whole.chars().take(MATCHING_LETTERS_MAX));
            if shown.len() < whole.len() { plain(&shown) + "…" } else { plain(&shown) }
        }
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
