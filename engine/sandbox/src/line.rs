//! A waiting line in which the workflow with the least memory is next. Within a workflow, the order is first come,
//! first served.
//!
//! A workflow whose executions fill all memory, with thousands more in line, delays the guests of another workflow by
//! one guest only. Only the next guest may take free memory, so that a large guest is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

/// The guests that wait, each with its notification.
#[derive(Default)]
pub(crate) struct Line(HashMap<String, VecDeque<(u64, Arc<Notify>)>>);

impl Line {
    /// Whether the line is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a guest behind the earlier ones of its workflow. Later guests have larger numbers.
    pub(crate) fn join(&mut self, workflow: &str, number: u64) -> Arc<Notify> {
        let called = Arc::new(Notify::new());
        self.0.entry(workflow.to_owned()).or_default().push_back((number, Arc::clone(&called)));
        called
    }

    /// Removes a guest, admitted or not.
    pub(crate) fn leave(&mut self, workflow: &str, number: u64) {
        let Some(waiting) = self.0.get_mut(workflow) else { return };
        // Nearly always it is the first one, and thousands may stand behind it.
        match waiting.front() {
            Some((first, _)) if *first == number => drop(waiting.pop_front()),
            _ => waiting.retain(|(other, _)| *other != number),
        }
        if waiting.is_empty() {
            self.0.remove(workflow);
        }
    }

    /// The next guest: of the workflow with the least memory, and of several such workflows the guest that has waited
    /// longest.
    pub(crate) fn next(&self, has: impl Fn(&str) -> u64) -> Option<(u64, &Arc<Notify>)> {
        let firsts = self.0.iter().filter_map(|(workflow, waiting)| Some((workflow, waiting.front()?)));
        let (_, (number, called)) = firsts.min_by_key(|(workflow, (number, _))| (has(workflow), *number))?;
        Some((*number, called))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets guests join, each named by its workflow, then admits them one by one. `used` is the initial usage of the
    /// workflows; each admitted guest adds one.
    fn served(joined: &str, used: &[(char, u64)], leaves: Option<u64>) -> String {
        let mut has: HashMap<String, u64> = used.iter().map(|(name, used)| (name.to_string(), *used)).collect();
        let mut line = Line::default();
        for (number, name) in (0..).zip(joined.chars()) {
            line.join(&name.to_string(), number);
        }
        let name = |number: u64| joined.chars().nth(usize::try_from(number).unwrap()).unwrap();
        if let Some(number) = leaves {
            line.leave(&name(number).to_string(), number);
        }
        let mut served = String::new();
        while let Some((number, _)) = line.next(|workflow| has.get(workflow).copied().unwrap_or(0)) {
            served.push(name(number));
            line.leave(&name(number).to_string(), number);
            *has.entry(name(number).to_string()).or_default() += 1;
        }
        assert!(line.is_empty());
        served
    }

    #[test]
    fn the_workflow_that_has_least_is_next() {
        assert_eq!(served("aaabbc", &[], None), "abcaba");
        assert_eq!(served("aaab", &[('a', 5)], None), "baaa");
        assert_eq!(served("aabb", &[('b', 1)], None), "aabb");
        assert_eq!(served("ab", &[], Some(0)), "b");
        assert_eq!(served("aab", &[], Some(1)), "ab");
    }
}
