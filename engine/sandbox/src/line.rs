//! A line in which the workflow that has least memory is next; within a workflow, first come is first served.
//!
//! A workflow whose executions fill all memory, with thousands more in line, keeps those of another one waiting for one
//! guest and not for all of them. Only the guest that is next may take what there is, so that a large one is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

/// Guests that wait, each with what calls it.
#[derive(Default)]
pub(crate) struct Line(HashMap<String, VecDeque<(u64, Arc<Notify>)>>);

impl Line {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A guest joins, behind those of its workflow that came before; later ones have larger numbers.
    pub(crate) fn join(&mut self, workflow: &str, number: u64) -> Arc<Notify> {
        let called = Arc::new(Notify::new());
        self.0.entry(workflow.to_owned()).or_default().push_back((number, Arc::clone(&called)));
        called
    }

    /// A guest leaves, served or not.
    pub(crate) fn leave(&mut self, workflow: &str, number: u64) {
        let Some(waiting) = self.0.get_mut(workflow) else { return };
        // Nearly always the first one: thousands may stand behind it.
        match waiting.front() {
            Some((first, _)) if *first == number => drop(waiting.pop_front()),
            _ => waiting.retain(|(other, _)| *other != number),
        }
        if waiting.is_empty() {
            self.0.remove(workflow);
        }
    }

    /// Which guest is next: of the workflow that has least, and of several the one that waits longest.
    pub(crate) fn next(&self, has: impl Fn(&str) -> u64) -> Option<(u64, &Arc<Notify>)> {
        let firsts = self.0.iter().filter_map(|(workflow, waiting)| Some((workflow, waiting.front()?)));
        let (_, (number, called)) = firsts.min_by_key(|(workflow, (number, _))| (has(workflow), *number))?;
        Some((*number, called))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guests join, named by their workflow; of each workflow so much is used, and one more by each that is served.
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
