//! The report of a run, in words.

use std::fmt;
use std::time::Duration;

use super::checker::Checker;
use super::crowd::Counts;
use super::kills::{Class, Fallen, Scene};

/// The report of a run.
#[derive(Debug)]
pub struct Report {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) fallen: Fallen,
    pub(crate) counts: Counts,
    pub(crate) begun: u64,
    pub(crate) ended: usize,
    pub(crate) children: u64,
    pub(crate) statuses: Vec<(String, u64)>,
    pub(crate) requests: u64,
    pub(crate) repeats: u64,
    pub(crate) calm: Option<Duration>,
    /// The number of executions that had not ended when one of them had not moved for a minute after the last kill;
    /// `None` when a violation ended the run before.
    pub(crate) frozen: Option<usize>,
    /// The faults besides kills, in words.
    pub(crate) faults: String,
    /// The violations, each with the history and the ledger that show it.
    pub violations: Vec<String>,
}

impl Report {
    pub(crate) fn new((name, seed): (&'static str, u64), took: Duration, checker: Checker, fallen: Fallen) -> Self {
        Self {
            name,
            seed,
            took,
            fallen,
            counts: Counts::default(),
            begun: 0,
            ended: checker.ended(),
            children: checker.children,
            statuses: checker.statuses.into_iter().collect(),
            requests: checker.requests,
            repeats: checker.repeats,
            calm: None,
            frozen: None,
            faults: String::new(),
            violations: checker.violations,
        }
    }

    /// How often the engine was killed.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.fallen.scenes.len()
    }

    /// The number of kills in each class, by its name.
    pub fn by_class(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Class::ALL.into_iter().map(|class| (class.name(), self.fallen.of(class)))
    }

    /// The number of executions that were open at a kill, in the mean.
    #[must_use]
    pub fn open_mean(&self) -> u64 {
        self.mean(|scene| scene.open)
    }

    fn mean(&self, what: fn(&Scene) -> u64) -> u64 {
        let scenes = &self.fallen.scenes;
        scenes.iter().map(what).sum::<u64>() / (scenes.len() as u64).max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scenes, counts) = (&self.fallen.scenes, &self.counts);
        let minutes = self.took.as_secs_f64() / 60.0;
        writeln!(f, "torture on {}: SEED={}, {minutes:.1} minutes, {} kills", self.name, self.seed, self.kills())?;
        let classes: Vec<String> = self.by_class().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "  kills by where they fell: {}", classes.join(", "))?;
        writeln!(f, "  besides: {}", self.faults)?;
        let at = |what: fn(&Scene) -> u64| scenes.iter().filter(|scene| what(scene) > 0).count();
        writeln!(
            f,
            "  whatever they were aimed at, histories and ledger show a running step at {}, an effect sent and not recorded at {}, hibernated executions at {}, a start that nobody was told of at {}",
            at(|scene| scene.steps_running),
            at(|scene| scene.effects_unrecorded),
            at(|scene| scene.hibernated),
            at(|scene| scene.starts_untold),
        )?;
        writeln!(
            f,
            "  open at a kill: at least {}, {} in the mean, of which {} hibernated",
            scenes.iter().map(|scene| scene.open).min().unwrap_or_default(),
            self.open_mean(),
            self.mean(|scene| scene.hibernated),
        )?;
        let statuses: Vec<String> = self.statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
        writeln!(
            f,
            "  executions: {} started and {} children, {} ended ({})",
            self.begun,
            self.children,
            self.ended,
            statuses.join(", ")
        )?;
        writeln!(
            f,
            "  calls: {} starts and {} answers, signals and the like acknowledged, {} calls without an answer, {} histories read, {} resumed after engine crashes",
            counts.starts, counts.deeds, counts.unanswered, counts.readings, counts.resumed_after_crashes
        )?;
        writeln!(f, "  effects: {} requests seen, {} of them repeats", self.requests, self.repeats)?;
        match self.calm {
            Some(calm) => writeln!(f, "  after the last kill all had ended within {:.1} s", calm.as_secs_f64())?,
            None => writeln!(f, "  it did not come to the end")?,
        }
        if let Some(frozen) = self.frozen {
            writeln!(f, "  frozen executions: {frozen}")?;
        }
        write!(f, "  violations: {}", self.violations.len())?;
        for violation in &self.violations {
            write!(f, "\n\n{violation}")?;
        }
        Ok(())
    }
}
