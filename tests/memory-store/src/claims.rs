//! Who may run what.

use cerebelum_history::Timestamp;
use cerebelum_store::{Claimed, ExecutionKey, Incarnation, SMALL_BYTES, Size, State};

use crate::tables::{Row, Tables};

/// When a free execution has to be looked at; none when time alone never moves it.
fn wake(row: &Row) -> Option<Timestamp> {
    if row.head.settled || row.head.paused { row.head.due } else { Some(Timestamp(0)) }
}

fn is_free(row: &Row) -> bool {
    row.owner.is_none() && row.head.state == State::Open
}

impl Tables {
    pub(crate) fn claim(&mut self, incarnation: Incarnation, limit: u32, size: Size) -> Vec<Claimed> {
        if limit == 0 || self.standing(incarnation).is_none() {
            return Vec::new();
        }
        let limit = limit as usize;
        let fits = |row: &Row| size == Size::Any || row.brings() <= SMALL_BYTES;
        let claimable =
            || self.executions.values().filter(|row| is_free(row) && row.head.parked.is_none() && fits(row));
        let told: Vec<ExecutionKey> =
            claimable().filter(|row| row.has_unseen()).map(|row| row.head.key.clone()).collect();
        let mut due: Vec<(Timestamp, ExecutionKey)> =
            claimable().filter_map(|row| Some((wake(row)?, row.head.key.clone()))).collect();
        due.retain(|(at, _)| *at <= self.now);
        due.sort();
        let half = limit.div_ceil(2).min(told.len());
        let (first, rest) = told.split_at(half);
        let mut picked: Vec<ExecutionKey> = Vec::new();
        for key in first.iter().chain(due.iter().map(|(_, key)| key)).chain(rest) {
            if picked.len() < limit && !picked.contains(key) {
                picked.push(key.clone());
            }
        }
        picked.iter().filter_map(|key| self.take(incarnation, key)).collect()
    }

    /// Frees those of these executions that an incarnation has claimed.
    pub fn give_back(&mut self, incarnation: Incarnation, keys: &[ExecutionKey]) {
        for key in keys {
            if let Some(row) = self.executions.get_mut(key).filter(|row| row.owner == Some(incarnation)) {
                row.owner = None;
            }
        }
    }

    pub(crate) fn claim_one(&mut self, incarnation: Incarnation, key: &ExecutionKey) -> Option<Claimed> {
        self.standing(incarnation)?;
        self.executions.get(key).filter(|row| is_free(row))?;
        self.take(incarnation, key)
    }

    fn take(&mut self, incarnation: Incarnation, key: &ExecutionKey) -> Option<Claimed> {
        let row = self.executions.get_mut(key)?;
        row.owner = Some(incarnation);
        Some(row.claimed())
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let free = self.executions.values().filter(|row| is_free(row) && row.head.parked.is_none());
        free.filter_map(wake).filter(|at| *at > self.now).min()
    }
}
