//! Claims: which node may run which executions.

use cerebelum_history::Timestamp;
use cerebelum_store::{Backlog, Claimed, ExecutionKey, Incarnation, SMALL_BYTES, Size, State, TenantId};

use crate::tables::{Row, Tables};

/// When a free execution has to be looked at, or none if time alone never moves it.
fn wake(row: &Row) -> Option<Timestamp> {
    if row.head.settled || row.head.paused { row.head.due } else { Some(Timestamp(0)) }
}

fn is_free(row: &Row) -> bool {
    row.owner.is_none() && row.head.state == State::Open
}

/// Whether the execution has something to do at this time.
pub(crate) fn can_move(row: &Row, now: Timestamp) -> bool {
    let is_due = wake(row).is_some_and(|at| at <= now);
    row.head.state == State::Open && row.head.parked.is_none() && (is_due || row.has_unseen())
}

/// How often a node looks for a free suspect while it waits for the suspect that it has claimed to go on, in
/// milliseconds.
const LOOK_AGAIN_MS: u64 = 100;

impl Tables {
    pub(crate) fn claim(&mut self, incarnation: Incarnation, limit: u32, size: Size) -> Vec<Claimed> {
        if limit == 0 || self.standing(incarnation).is_none() {
            return Vec::new();
        }
        let mut picked = self.suspect(incarnation, size);
        self.pick(&mut picked, limit as usize, |row| size == Size::Any || row.brings() <= SMALL_BYTES);
        picked.iter().filter_map(|key| self.take(incarnation, key)).collect()
    }

    pub(crate) fn claim_in_turn(
        &mut self,
        incarnation: Incarnation,
        (limit, size): (u32, Size),
        (without, after): (&[TenantId], TenantId),
    ) -> Vec<Claimed> {
        if limit == 0 || self.standing(incarnation).is_none() {
            return Vec::new();
        }
        let mut picked = self.suspect(incarnation, size);
        let has_work = |row: &&Row| is_free(row) && can_move(row, self.now);
        let with_work = self.executions.values().filter(has_work).map(|row| row.head.key.tenant);
        let mut tenants: Vec<TenantId> = with_work.filter(|tenant| !without.contains(tenant)).collect();
        tenants.sort_by_key(|tenant| (*tenant <= after, *tenant));
        tenants.dedup();
        tenants.truncate(limit as usize);
        let share = limit as usize / tenants.len().max(1);
        for tenant in tenants {
            let until = (picked.len() + share).min(limit as usize);
            let fits = |row: &Row| size == Size::Any || row.brings() <= SMALL_BYTES;
            self.pick(&mut picked, until, |row| row.head.key.tenant == tenant && fits(row));
        }
        picked.iter().filter_map(|key| self.take(incarnation, key)).collect()
    }

    /// The suspect that the node may claim beside others, if there is one.
    fn suspect(&self, incarnation: Incarnation, size: Size) -> Vec<ExecutionKey> {
        let has_one = self.executions.values().any(|row| {
            row.owner == Some(incarnation)
                && row.is_suspect()
                && row.head.state == State::Open
                && row.head.parked.is_none()
        });
        let is_next = |row: &&Row| is_free(row) && row.is_suspect() && can_move(row, self.now);
        let suspects = self.executions.values().filter(|row| size == Size::Any && !has_one && is_next(row));
        suspects.min_by_key(|row| (row.crashes_here(), row.no)).map(|row| row.head.key.clone()).into_iter().collect()
    }

    /// Picks further executions that have something to do and fit, until there are `until`.
    fn pick(&self, picked: &mut Vec<ExecutionKey>, until: usize, fits: impl Fn(&Row) -> bool) {
        let claimable = || {
            let is_claimable = |row: &&Row| is_free(row) && row.head.parked.is_none() && !row.is_suspect() && fits(row);
            self.executions.values().filter(is_claimable)
        };
        let told: Vec<ExecutionKey> =
            claimable().filter(|row| row.has_unseen()).map(|row| row.head.key.clone()).collect();
        let mut due: Vec<(Timestamp, ExecutionKey)> =
            claimable().filter_map(|row| Some((wake(row)?, row.head.key.clone()))).collect();
        due.retain(|(at, _)| *at <= self.now);
        due.sort();
        let half = until.saturating_sub(picked.len()).div_ceil(2).min(told.len());
        let (first, rest) = told.split_at(half);
        for key in first.iter().chain(due.iter().map(|(_, key)| key)).chain(rest) {
            if picked.len() < until && !picked.contains(key) {
                picked.push(key.clone());
            }
        }
    }

    /// Frees those of these executions that the incarnation has claimed.
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
        let has_suspects = free.clone().any(|row| row.is_suspect() && can_move(row, self.now));
        let look_again = has_suspects.then(|| self.now.plus(LOOK_AGAIN_MS));
        free.filter_map(wake).filter(|at| *at > self.now).chain(look_again).min()
    }

    pub(crate) fn backlog(&self) -> Backlog {
        let free = self.executions.values().filter(|row| is_free(row) && row.head.parked.is_none());
        let due = free.filter_map(|row| Some((wake(row)?, row.head.stamp))).filter(|(at, _)| *at <= self.now);
        let since: Vec<Timestamp> = due.map(|(at, last)| if at == Timestamp(0) { last } else { at }).collect();
        let oldest_ms = since.iter().min().map_or(0, |oldest| self.now.since(*oldest));
        Backlog { due: since.len() as u64, oldest_ms }
    }
}
