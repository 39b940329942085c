//! A waiting line in which the tenant with the least memory is next, and of its workflows the one with the least. Within
//! a workflow, the order is first come, first served.
//!
//! A tenant or a workflow whose executions fill all memory, with thousands more in line, delays the guests of another one
//! by one guest only. Only the next guest may take free memory, so that a large guest is not starved by small ones.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::ledger::GuestOwner;

/// The guests that wait, each with its notification.
#[derive(Default)]
pub(crate) struct Line(HashMap<GuestOwner, VecDeque<(u64, Arc<Notify>)>>);

impl Line {
    /// Whether the line is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a guest behind the earlier ones of its workflow. Later guests have larger numbers.
    pub(crate) fn join(&mut self, owner: &GuestOwner, number: u64) -> Arc<Notify> {
        let called = Arc::new(Notify::new());
        self.0.entry(owner.clone()).or_default().push_back((number, Arc::clone(&called)));
        called
    }

    /// Removes a guest, admitted or not.
    pub(crate) fn leave(&mut self, owner: &GuestOwner, number: u64) {
        let Some(waiting) = self.0.get_mut(owner) else { return };
        // Nearly always it is the first one, and thousands may stand behind it.
        match waiting.front() {
            Some((first, _)) if *first == number => drop(waiting.pop_front()),
            _ => waiting.retain(|(other, _)| *other != number),
        }
        if waiting.is_empty() {
            self.0.remove(owner);
        }
    }

    /// The next guest. `has` is the memory of an owner's tenant and workflow; of several owners with the least, it is the
    /// guest that has waited longest.
    pub(crate) fn next(&self, has: impl Fn(&GuestOwner) -> (u64, u64)) -> Option<(u64, &Arc<Notify>)> {
        let firsts = self.0.iter().filter_map(|(owner, waiting)| Some((owner, waiting.front()?)));
        let (_, (number, called)) = firsts.min_by_key(|(owner, (number, _))| (has(owner), *number))?;
        Some((*number, called))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(tenant: &str, workflow: char) -> GuestOwner {
        GuestOwner { tenant: tenant.into(), workflow: workflow.to_string().into() }
    }

    /// Lets guests of one tenant join, each named by its workflow, then admits them one by one. `used` is the initial
    /// usage of the workflows; each admitted guest adds one.
    fn served(joined: &str, used: &[(char, u64)], leaves: Option<u64>) -> String {
        let mut has: HashMap<GuestOwner, u64> = used.iter().map(|(name, used)| (owner("", *name), *used)).collect();
        let mut line = Line::default();
        let name = |number: u64| joined.chars().nth(usize::try_from(number).unwrap()).unwrap();
        let of = |number| owner("", name(number));
        for number in 0..joined.len() as u64 {
            line.join(&of(number), number);
        }
        if let Some(number) = leaves {
            line.leave(&of(number), number);
        }
        let mut served = String::new();
        while let Some((number, _)) = line.next(|owner| (0, has.get(owner).copied().unwrap_or(0))) {
            served.push(name(number));
            line.leave(&of(number), number);
            *has.entry(of(number)).or_default() += 1;
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

    #[test]
    fn a_tenant_gains_nothing_by_many_workflows() {
        let mut line = Line::default();
        for (number, workflow) in (0..).zip('a'..='y') {
            line.join(&owner("loud", workflow), number);
        }
        line.join(&owner("quiet", 'z'), 99);
        let next = line.next(|owner| if &*owner.tenant == "loud" { (2, 0) } else { (1, 1) });
        assert_eq!(next.unwrap().0, 99);
    }
}
