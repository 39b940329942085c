//! Bulk jobs in words.

use super::plain;
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
    parts.splice(0..0, filter.parent.as_ref().map(|parent| format!("child of {parent}")));
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
        };
        assert_eq!(matching(&filter), r#"failed, shop/order, child of o-1, a="\u{1b}", b=2"#);
        assert_eq!(matching(&proto::ExecutionFilter::default()), "all");
        let long = proto::ExecutionFilter { workflow: Some("ü".repeat(500)), ..Default::default() };
        assert_eq!(matching(&long), "ü".repeat(MATCHING_LETTERS_MAX) + "…");
    }
}
