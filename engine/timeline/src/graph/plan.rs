//! The plan of a workflow: its steps in the order that its author wrote, and where its rules may lead.
//!
//! A plan is for people only. It stands in the schema of the workflow's input, under a keyword of its own, because the
//! record of a workflow cannot grow (decision 034). What cannot be read as a plan counts as none.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use cerebelum_history::{Json, NAME_BYTES_MAX};

/// The most entries in a workflow's plan: steps, groups, and ways of rules. A longer plan is not drawn.
pub const PLAN_ENTRIES_MAX: usize = 500;
/// How deeply the groups of a plan may stand in each other. A deeper plan is not drawn.
pub const PLAN_DEPTH_MAX: usize = 16;

/// Steps and groups that run one after the other.
pub(super) type Line = Vec<Entry>;

/// One entry of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Step(String),
    /// Lines that run at the same time.
    Group(Vec<Line>),
}

/// What the author of a workflow wrote as its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub(super) line: Line,
    /// The rules of each step that has some.
    pub(super) rules: BTreeMap<String, Vec<RuleOutcome>>,
}

/// One way on after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOutcome {
    /// When it is taken.
    pub when: When,
    /// Where it leads.
    pub then: Then,
}

/// When a rule leads somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The step has returned, whatever its value is.
    Returned,
    /// The step has failed.
    Failed,
    /// The step has ended, in whichever way.
    Ended,
    /// The step has returned exactly this JSON value, or has failed with this text.
    Is(String),
    /// The condition of a branch is true, or is false.
    Condition(bool),
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// These steps run, then the workflow goes on.
    Steps(Steps),
    /// The step runs again, at most so many times.
    Retry(u64),
    /// The workflow goes on at an earlier step.
    BackTo(String),
    /// The workflow goes on at a later step.
    SkipTo(String),
    /// The execution fails.
    Fail,
    /// The execution completes.
    End,
}

/// The steps to which a rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(pub(super) Line);

impl Steps {
    /// Their names, in the order in which they are written.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        names(&self.0)
    }
}

#[derive(Deserialize)]
struct Schema {
    #[serde(default, rename = "x-cerebelum-plan")]
    plan: Value,
}

impl Plan {
    /// Reads the plan from the schema of a workflow's input. There is none if the schema has none, or one that is
    /// malformed or too large.
    #[must_use]
    pub fn of(schema: Option<&Json>) -> Option<Self> {
        let Schema { plan } = serde_json::from_str(schema?.as_str()).ok()?;
        let mut reader = Reader { entries_left: PLAN_ENTRIES_MAX };
        let line = reader.line(plan.get("steps")?, 0)?;
        let none = Map::new();
        let rules = plan.get("rules").map_or(Some(&none), Value::as_object)?;
        let rules = rules.iter().map(|(step, ways)| {
            let ways = ways.as_array()?.iter().map(|way| reader.way(way)).collect::<Option<_>>()?;
            Some((name(step)?, ways))
        });
        Some(Self { line, rules: rules.collect::<Option<_>>()? })
    }

    /// All lines: that of the timeline first, then those to which rules lead.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        std::iter::once(&self.line).chain(self.rules.values().flat_map(|ways| targets(ways)).map(|(_, line)| line))
    }
}

/// The lines to which ways lead.
pub(super) fn targets(ways: &[RuleOutcome]) -> impl Iterator<Item = (&When, &Line)> {
    ways.iter().filter_map(|way| match &way.then {
        Then::Steps(steps) => Some((&way.when, &steps.0)),
        Then::Retry(_) | Then::BackTo(_) | Then::SkipTo(_) | Then::Fail | Then::End => None,
    })
}

/// Reads entries until there are too many.
struct Reader {
    entries_left: usize,
}

impl Reader {
    fn line(&mut self, value: &Value, depth: usize) -> Option<Line> {
        let entries = value.as_array().filter(|entries| !entries.is_empty() && depth <= PLAN_DEPTH_MAX)?;
        entries.iter().map(|entry| self.entry(entry, depth)).collect()
    }

    fn entry(&mut self, value: &Value, depth: usize) -> Option<Entry> {
        self.count()?;
        match value {
            Value::String(step) => name(step).map(Entry::Step),
            Value::Array(lines) if !lines.is_empty() => {
                lines.iter().map(|line| self.line(line, depth + 1)).collect::<Option<_>>().map(Entry::Group)
            }
            _ => None,
        }
    }

    fn way(&mut self, value: &Value) -> Option<RuleOutcome> {
        self.count()?;
        let when = match value.get("when")? {
            Value::Bool(is_true) => When::Condition(*is_true),
            Value::String(word) => match word.as_str() {
                "returned" => When::Returned,
                "failed" => When::Failed,
                "ended" => When::Ended,
                _ => return None,
            },
            exactly => When::Is(exactly.get("is")?.to_string()),
        };
        let then = match value.get("then")? {
            Value::String(word) if word == "fail" => Then::Fail,
            Value::String(word) if word == "end" => Then::End,
            steps @ Value::Array(_) => Then::Steps(Steps(self.line(steps, 0)?)),
            Value::Object(action) if action.len() == 1 => match action.iter().next()? {
                (word, times) if word == "retry" => Then::Retry(times.as_u64()?),
                (word, step) if word == "back-to" => Then::BackTo(name(step.as_str()?)?),
                (word, step) if word == "skip-to" => Then::SkipTo(name(step.as_str()?)?),
                _ => return None,
            },
            _ => return None,
        };
        Some(RuleOutcome { when, then })
    }

    fn count(&mut self) -> Option<()> {
        self.entries_left = self.entries_left.checked_sub(1)?;
        Some(())
    }
}

fn name(text: &str) -> Option<String> {
    (1..=NAME_BYTES_MAX).contains(&text.len()).then(|| text.to_owned())
}

/// The names of the steps of a line, in order.
pub(super) fn names(line: &[Entry]) -> Vec<&str> {
    let mut names = Vec::new();
    names_of(line, &mut names);
    names
}

fn names_of<'p>(line: &'p [Entry], into: &mut Vec<&'p str>) {
    for entry in line {
        match entry {
            Entry::Step(name) => into.push(name),
            Entry::Group(lines) => lines.iter().for_each(|line| names_of(line, into)),
        }
    }
}
