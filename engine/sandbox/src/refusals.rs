//! Remembers which components were refused, so that the same bytes do not cost as much again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cerebelum_history::Digest;
use parking_lot::Mutex;

/// How many refusals are remembered. The oldest one goes first.
const REFUSALS_MAX: usize = 1_000;
/// How long a refusal counts. What a busy machine refused may be accepted later.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The latest refusals, with their reasons.
#[derive(Default)]
pub(crate) struct Refusals {
    known: Mutex<HashMap<Digest, (Instant, String)>>,
}

impl Refusals {
    /// Why this component was refused, if that is not long ago.
    pub(crate) fn find(&self, digest: &Digest) -> Option<String> {
        let mut known = self.known.lock();
        known.retain(|_, (refused, _)| refused.elapsed() < REMEMBERED);
        known.get(digest).map(|(_, cause)| cause.clone())
    }

    pub(crate) fn add(&self, digest: &Digest, cause: &str) {
        let mut known = self.known.lock();
        if known.len() >= REFUSALS_MAX {
            let oldest = known.iter().min_by_key(|(_, (refused, _))| *refused).map(|(digest, _)| digest.clone());
            known.remove(&oldest.expect("it is not empty"));
        }
        known.insert(digest.clone(), (Instant::now(), cause.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_refusals_are_remembered() {
        let refusals = Refusals::default();
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        (0..=REFUSALS_MAX).for_each(|number| refusals.add(&digest(number), "too expensive"));
        assert_eq!(refusals.find(&digest(0)), None);
        assert_eq!(refusals.find(&digest(1)).as_deref(), Some("too expensive"));
        assert_eq!(refusals.known.lock().len(), REFUSALS_MAX);
    }
}
