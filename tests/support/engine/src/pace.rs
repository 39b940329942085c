//! The pace of something that is done again and again: how long it takes beside some work, compared with how long it
//! took before, and with how long the machine held up a bystander meanwhile.

use std::time::{Duration, Instant};

use crate::Bystander;

/// How often it is done to see how long it usually takes.
const USUALLY: u32 = 10;
/// The delay that is allowed in addition to the bystander's, since a busy machine does much else.
const NOISE: Duration = Duration::from_secs(3);

/// A measurement that goes on.
pub struct Pace {
    usual: Duration,
    took: Vec<Duration>,
    machine: Bystander,
}

impl Pace {
    /// Does it several times to see how long it usually takes.
    #[must_use]
    pub fn of(mut act: impl FnMut()) -> Self {
        let usual = (0..USUALLY).map(|_| time(&mut act)).max().unwrap_or_default();
        Self { usual, took: Vec::new(), machine: Bystander::begin() }
    }

    /// Does it once more, beside the work.
    pub fn again(&mut self, act: impl FnOnce()) {
        self.took.push(time(act));
    }

    /// How often it was done beside the work.
    #[must_use]
    pub fn count(&self) -> usize {
        self.took.len()
    }

    /// Asserts that the 99th percentile is at most twice as long as usual, four times the longest delay of the
    /// bystander and three seconds.
    ///
    /// # Panics
    /// When it was slower.
    pub fn assert_kept(mut self) {
        self.took.sort();
        let index = (self.took.len() * 99 / 100).min(self.took.len().saturating_sub(1));
        let slowest = self.took.get(index).copied().unwrap_or_default();
        let allowed = self.usual * 2 + self.machine.end() * 4 + NOISE;
        eprintln!("beside the work it took {slowest:?}, usually {:?}", self.usual);
        assert!(slowest <= allowed, "{slowest:?} where {allowed:?} are allowed, in {} times", self.took.len());
    }
}

fn time(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}
