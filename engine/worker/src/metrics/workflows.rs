//! Metrics by workflow. However many workflows there are, at most 200 have metrics of their own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::executions::OUTCOMES;

/// Further workflows share the metrics of `other`.
const WORKFLOWS_MAX: usize = 200;
const OTHER: &str = "other";

/// The metrics of one workflow.
#[derive(Debug)]
pub(crate) struct OfWorkflow {
    pub(crate) started: Counter,
    pub(super) ended: [Counter; OUTCOMES.len()],
}

/// The metrics of all workflows.
#[derive(Debug)]
pub(crate) struct Workflows {
    started: Family<[(&'static str, String); 1], Counter>,
    ended: Family<[(&'static str, String); 2], Counter>,
    known: RwLock<HashMap<String, Arc<OfWorkflow>>>,
}

impl Workflows {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let (started, ended) = (Family::default(), Family::default());
        registry.register("executions_started", "Executions started through this engine", Clone::clone(&started));
        registry.register("executions_ended", "Executions that ended on this engine", Clone::clone(&ended));
        Self { started, ended, known: RwLock::default() }
    }

    /// The metrics of this workflow.
    pub(crate) fn of(&self, workflow: &str) -> Arc<OfWorkflow> {
        let known = self.known.read();
        if let Some(found) = known.get(workflow) {
            return found.clone();
        }
        drop(known);
        let mut known = self.known.write();
        let name = if known.len() < WORKFLOWS_MAX || known.contains_key(workflow) { workflow } else { OTHER };
        known.entry(name.to_owned()).or_insert_with(|| Arc::new(self.add(name))).clone()
    }

    /// All outcomes are there at once: an alert about failures must see the first one.
    fn add(&self, workflow: &str) -> OfWorkflow {
        let label = || ("workflow", workflow.to_owned());
        OfWorkflow {
            started: self.started.get_or_create_owned(&[label()]),
            ended: OUTCOMES.map(|outcome| self.ended.get_or_create_owned(&[label(), ("outcome", outcome.to_owned())])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_workflows_have_metrics_of_their_own_and_all_others_share_one() {
        let mut registry = Registry::default();
        let workflows = Workflows::new(&mut registry);
        for round in 0..2 {
            for number in 0..500 {
                workflows.of(&format!("w{number}")).started.inc_by(1 + round);
            }
        }
        assert_eq!(workflows.of("w0").started.get(), 3);
        assert_eq!(workflows.of("w199").started.get(), 3);
        assert_eq!(workflows.of("w200").started.get(), 900);
        assert_eq!(workflows.of("another").started.get(), 900);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("executions_started_total{")).count(), 201);
    }
}
