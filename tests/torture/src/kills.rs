//! The aims of kills, and the places where they struck.

use std::collections::BTreeMap;
use std::time::Duration;

use test_programs::DeterministicRng;

/// The place where a kill struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Replay,
    StepRunning,
    EffectSent,
    BatchSent,
    Hibernated,
    Random,
}

impl Class {
    pub(crate) const ALL: [Self; 6] =
        [Self::Replay, Self::StepRunning, Self::EffectSent, Self::BatchSent, Self::Hibernated, Self::Random];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::StepRunning => "step running",
            Self::EffectSent => "effect sent and not recorded",
            Self::BatchSent => "batch sent and not acknowledged",
            Self::Hibernated => "hibernated",
            Self::Random => "random moment",
        }
    }
}

/// How one life of the engine is to end.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) class: Class,
    /// The failpoint; none for a kill from outside.
    pub(crate) failpoint: Option<String>,
    /// Settings of this life.
    pub(crate) settings: [(&'static str, &'static str); 2],
    /// The latest time at which it is killed from outside.
    pub(crate) at: Duration,
}

/// A failpoint, the last pass at which it may strike, and the most microseconds that the kill may come later.
type Card = (Class, &'static str, u64, u64);

/// Each card is dealt once before any of them comes again.
const DECK: &[Card] = &[
    (Class::Replay, "replaying", 50, 0),
    (Class::Replay, "replaying", 50, 2_000),
    (Class::StepRunning, "step-running", 200, 0),
    (Class::StepRunning, "step-running", 200, 1_000),
    (Class::EffectSent, "effect-sent", 80, 0),
    (Class::BatchSent, "batch-asked", 150, 3_000),
    (Class::BatchSent, "batch-sent", 150, 0),
    (Class::BatchSent, "start-sent", 12, 0),
    (Class::Hibernated, "released", 25, 0),
    (Class::Random, "", 0, 0),
];

/// A life that reaches no failpoint ends after this time.
const LIFE_MAX: Duration = Duration::from_secs(5);

/// Deals out aims; a seed fixes them.
#[derive(Debug)]
pub(crate) struct Kills {
    chance: DeterministicRng,
    deck: Vec<Card>,
    longest: Duration,
}

impl Kills {
    /// Kills at random moments come after `longest` at the latest.
    pub(crate) fn new(seed: u64, longest: Duration) -> Self {
        Self { chance: DeterministicRng::of(seed, u64::MAX), deck: Vec::new(), longest }
    }

    pub(crate) fn next(&mut self) -> Aim {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
        }
        let (class, name, passes, later) = self.deck.swap_remove(self.chance.index(self.deck.len()));
        let settings = self.settings();
        if class == Class::Random {
            let longest = u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX);
            let at = self.chance.millis(20, longest);
            return Aim { class, failpoint: None, settings, at };
        }
        let (pass, later) = (self.chance.between(1, passes), self.chance.between(0, later));
        Aim { class, failpoint: Some(format!("{name}:{pass}:{later}")), settings, at: LIFE_MAX }
    }

    /// The aim of the first life, in which the executions are started.
    pub(crate) fn first(&mut self) -> Aim {
        Aim { class: Class::Random, failpoint: None, settings: self.settings(), at: self.longest }
    }

    /// Every other life runs ahead of the log; idle executions leave memory at once, soon or late.
    fn settings(&mut self) -> [(&'static str, &'static str); 2] {
        let ahead = ["0", "1000"][self.chance.index(2)];
        let idle = ["20ms", "400ms", "400ms", "2s"][self.chance.index(4)];
        [("CEREBELUM_RUN_AHEAD_EVENTS_MAX", ahead), ("CEREBELUM_HIBERNATE_AFTER", idle)]
    }
}

/// The state of histories and ledger after a kill.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) open: u64,
    pub(crate) hibernated: u64,
    pub(crate) steps_running: u64,
    pub(crate) effects_unrecorded: u64,
    /// Starts that are durable but were not acknowledged.
    pub(crate) starts_untold: u64,
}

impl Scene {
    /// The place where the kill struck: its aim, unless the state afterwards contradicts that.
    pub(crate) const fn class(&self, aimed: Class) -> Class {
        let is_so = match aimed {
            Class::StepRunning => self.steps_running > 0,
            Class::EffectSent => self.effects_unrecorded > 0,
            Class::Hibernated => self.hibernated > 0,
            Class::Replay | Class::BatchSent | Class::Random => true,
        };
        if is_so { aimed } else { Class::Random }
    }
}

/// All kills of a run.
#[derive(Debug, Default)]
pub(crate) struct Fallen {
    pub(crate) by_class: BTreeMap<Class, u64>,
    pub(crate) scenes: Vec<Scene>,
}

impl Fallen {
    pub(crate) fn note(&mut self, class: Class, scene: Scene) {
        *self.by_class.entry(class).or_default() += 1;
        self.scenes.push(scene);
    }

    /// Forgets the last kill, which was the end of the run and not a fault.
    pub(crate) fn forget_last(&mut self, class: Class) {
        self.scenes.pop();
        self.by_class.entry(class).and_modify(|count| *count -= 1);
    }

    pub(crate) fn has_each_class(&self) -> bool {
        Class::ALL.into_iter().all(|class| self.of(class) > 0)
    }

    pub(crate) fn of(&self, class: Class) -> u64 {
        self.by_class.get(&class).copied().unwrap_or_default()
    }
}
