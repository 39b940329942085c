//! The bytes that the requests of a tenant may move in a minute, both ways together.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What is spent comes back within this time.
const PERIOD: Duration = Duration::from_secs(60);

/// What a tenant has spent. A request leaves as long as something is left. It is not cut short when that is used up
/// meanwhile: its effect has happened. So the next requests wait until the debt is paid.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    bytes: u64,
    max: u64,
    /// Until when what came back is subtracted.
    at: Option<Instant>,
}

impl Budget {
    /// Whether anything is left of `max` bytes in a minute.
    pub(super) fn admits(&self, max: u64, now: Instant) -> bool {
        let mut spent = self.0.lock();
        spent.settle(max, now);
        spent.bytes < max
    }

    /// Spends bytes that have been moved.
    pub(super) fn spend(&self, bytes: u64) {
        let mut spent = self.0.lock();
        spent.bytes = spent.bytes.saturating_add(bytes);
    }

    /// What is spent and has not come back yet.
    #[cfg(test)]
    pub(super) fn spent(&self) -> u64 {
        self.0.lock().bytes
    }
}

impl Spent {
    /// Subtracts what came back since the last time. With a new budget, no more than that is owed.
    fn settle(&mut self, max: u64, now: Instant) {
        let back = self.at.map_or(0, |at| {
            let milliseconds = now.saturating_duration_since(at).as_millis();
            u64::try_from(milliseconds * u128::from(max) / PERIOD.as_millis()).unwrap_or(u64::MAX)
        });
        if back > 0 || self.at.is_none() {
            self.at = Some(now);
        }
        self.bytes = self.bytes.saturating_sub(back);
        if self.max != max {
            (self.bytes, self.max) = (self.bytes.min(max), max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_within_a_minute_and_a_debt_is_paid_first() {
        let (budget, began) = (Budget::default(), Instant::now());
        let admit = |bytes, ms| {
            let admits = budget.admits(600, began + Duration::from_millis(ms));
            budget.spend(if admits { bytes } else { 0 });
            admits
        };
        assert!(admit(600, 0) && !admit(1, 0));
        assert!(admit(1, 500) && admit(1, 500), "5 came back, and the last byte may be the first of many");
        budget.spend(1_200);
        assert!(!admit(1, 119_000), "two minutes' worth is owed");
        assert!(admit(1, 121_000));
    }

    #[test]
    fn however_often_it_is_asked_the_same_comes_back() {
        let (budget, began) = (Budget::default(), Instant::now());
        budget.spend(60);
        for ms in 0..=5_000 {
            budget.admits(60, began + Duration::from_millis(ms));
        }
        assert_eq!(budget.spent(), 55);
    }

    #[test]
    fn a_lower_budget_has_no_older_debt_and_none_lets_nothing_through() {
        let (budget, began) = (Budget::default(), Instant::now());
        assert!(budget.admits(1 << 30, began));
        budget.spend(1 << 40);
        assert!(!budget.admits(60, began));
        assert!(budget.admits(60, began + Duration::from_secs(2)));
        for seconds in [2, 100] {
            assert!(!budget.admits(0, began + Duration::from_secs(seconds)));
        }
    }
}
