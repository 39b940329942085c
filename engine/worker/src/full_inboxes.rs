//! Inboxes that were full a moment ago. To count one is as much work for the database as to write to it, and a sender that
//! is refused tries again at once: for a moment it is refused without a count.

use std::collections::HashMap;

use cerebelum_store::ExecutionKey;
use parking_lot::Mutex;

/// How long an inbox counts as full.
const REMEMBERED_MS: u64 = 250;
/// The most inboxes that are remembered; when there are more, all are forgotten.
const INBOXES_MAX: usize = 1_024;

/// When each inbox was full, and why its sender was refused.
#[derive(Default)]
pub(crate) struct FullInboxes(Mutex<HashMap<ExecutionKey, (u64, String)>>);

impl FullInboxes {
    /// Why an inbox takes no message, if it was full a moment ago.
    pub(crate) fn refusal(&self, key: &ExecutionKey, now_ms: u64) -> Option<String> {
        let found = self.0.lock();
        let (since, why) = found.get(key)?;
        (now_ms < since + REMEMBERED_MS).then(|| why.clone())
    }

    /// Remembers that an inbox is full.
    pub(crate) fn remember(&self, key: &ExecutionKey, now_ms: u64, why: &str) {
        let mut found = self.0.lock();
        if found.len() >= INBOXES_MAX {
            found.clear();
        }
        found.insert(key.clone(), (now_ms, why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use cerebelum_store::TenantId;

    use super::*;

    #[test]
    fn an_inbox_is_full_for_a_moment_and_few_are_remembered() {
        let key = |id: &str| ExecutionKey { tenant: TenantId::DEFAULT, id: id.parse().unwrap() };
        let full = FullInboxes::default();
        full.remember(&key("a"), 1_000, "has too many");
        assert_eq!(full.refusal(&key("a"), 1_000 + REMEMBERED_MS - 1).as_deref(), Some("has too many"));
        assert_eq!(full.refusal(&key("a"), 1_000 + REMEMBERED_MS), None);
        assert_eq!(full.refusal(&key("b"), 1_000), None);
        for n in 0..2 * INBOXES_MAX {
            full.remember(&key(&format!("e{n}")), 1_000, "");
        }
        assert!(full.0.lock().len() <= INBOXES_MAX);
    }
}
