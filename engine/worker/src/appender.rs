//! Writes groups of batches. It retries while the database takes nothing, and isolates a batch that the database rejects,
//! or does not take now although it takes others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::planted;
use cerebelum_store::{AppendError, Batch, ExecutionKey, InboxCursor, State, Store, StoreError};
use parking_lot::Mutex;

use crate::env::Runtime;
use crate::lease::LeaseKeeper;
use crate::metrics::Metrics;
use crate::throttle::Throttle;
use crate::watchers::Watchers;

/// The pause before the next attempt when the database does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The result of writing a batch.
pub(crate) type Appended = Result<InboxCursor, NotWritten>;

/// Why a batch was not written. Nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// It does not fit the stored state.
    Refused(AppendError),
    /// The database rejects it, even by itself.
    Rejected(String),
    /// The database takes others, and does not take this one now.
    Unavailable(String),
}

/// The result when another node has the claim.
pub(crate) const CLAIM_LOST: NotWritten = NotWritten::Refused(AppendError::ClaimLost);

/// Writes the batches of a node.
pub(crate) struct Appender {
    store: Arc<dyn Store>,
    lease: Arc<LeaseKeeper>,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    watchers: Watchers,
    next_id: AtomicU64,
    /// Executions whose last batch the database rejected. Their next batch is written by itself, after all others, so
    /// that no other batch needs a second attempt because of it.
    suspects: Mutex<HashSet<ExecutionKey>>,
    warnings: Throttle,
}

/// Batches with their indexes in the submitted group.
#[derive(Default)]
struct Group {
    places: Vec<usize>,
    batches: Vec<Batch>,
    /// It was split from a group that the database did not take while it took others.
    is_stuck: bool,
}

impl Group {
    /// Splits it in two. The second half comes first, because the last group is written next.
    fn halves(mut self, is_stuck: bool) -> [Self; 2] {
        let half = self.batches.len() / 2;
        let second = Self { places: self.places.split_off(half), batches: self.batches.split_off(half), is_stuck };
        [second, Self { is_stuck, ..self }]
    }
}

impl Appender {
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        lease: &Arc<LeaseKeeper>,
        runtime: &Arc<dyn Runtime>,
        (metrics, watchers): (&Arc<Metrics>, &Watchers),
    ) -> Self {
        Self {
            store: store.clone(),
            lease: lease.clone(),
            runtime: runtime.clone(),
            metrics: metrics.clone(),
            watchers: watchers.clone(),
            next_id: AtomicU64::new(runtime.chance()),
            suspects: Mutex::default(),
            warnings: Throttle::default(),
        }
    }

    /// How many executions there are whose last batch the database did not take.
    pub(crate) fn suspects(&self) -> usize {
        self.suspects.lock().len()
    }

    /// Writes a group. A group that the database does not take is split until the batch is isolated for which that is so;
    /// the others are written. Returns the result of each batch, in order.
    pub(crate) async fn append(self: Arc<Self>, batches: Vec<Batch>) -> Vec<Appended> {
        let mut answers = vec![Err(CLAIM_LOST); batches.len()];
        crate::fail::point("batch-asked");
        let mut groups = self.groups(batches);
        while let Some(group) = groups.pop() {
            let error = match self.write(&group).await {
                Ok(written) => {
                    self.absolve(&group.batches);
                    for (place, answer) in group.places.into_iter().zip(written) {
                        answers[place] = answer.map_err(NotWritten::Refused);
                    }
                    continue;
                }
                Err(error) => error,
            };
            if let [batch] = &*group.batches {
                self.suspects.lock().insert(batch.key.clone());
                answers[group.places[0]] = Err(error);
                continue;
            }
            let count = group.batches.len();
            self.warnings.line(&*self.runtime, |more| {
                tracing::warn!(?error, count, more, "the database did not take a group of batches: it is split");
            });
            let is_stuck = group.is_stuck || matches!(error, NotWritten::Unavailable(_));
            groups.extend(group.halves(is_stuck));
        }
        answers
    }

    /// Splits the batches, with their indexes, into groups. The last group is written first.
    fn groups(&self, batches: Vec<Batch>) -> Vec<Group> {
        let suspects = self.suspects.lock();
        if suspects.is_empty() {
            return vec![Group { places: (0..batches.len()).collect(), batches, is_stuck: false }];
        }
        let (mut alone, mut together) = (Vec::new(), Group::default());
        for (place, batch) in batches.into_iter().enumerate() {
            if suspects.contains(&batch.key) {
                alone.push(Group { places: vec![place], batches: vec![batch], is_stuck: true });
            } else {
                together.places.push(place);
                together.batches.push(batch);
            }
        }
        alone.extend(Some(together).filter(|group| !group.places.is_empty()));
        alone
    }

    fn absolve(&self, batches: &[Batch]) {
        let mut suspects = self.suspects.lock();
        if !suspects.is_empty() {
            suspects.retain(|key| !batches.iter().any(|batch| batch.key == *key));
        }
    }

    /// Writes a group. Retries with the same id as long as the lease holds and the database takes nothing.
    ///
    /// # Errors
    /// When the database does not take the group, and may take a part of it: nothing happened.
    async fn write(&self, group: &Group) -> Result<Vec<Result<InboxCursor, AppendError>>, NotWritten> {
        let batches = &group.batches;
        // How often the lease was renewed when the group was not taken for the first time. A further renewal shows that
        // the database takes writes.
        let mut renewed = None;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let count = batches.len();
        let ends = |batch: &Batch| batch.head.state != State::Open;
        let heads: Vec<_> = batches.iter().map(|batch| (batch.key.clone(), ends(batch))).collect();
        let began = self.runtime.poll_clock();
        let events: u64 = batches.iter().flat_map(|b| &b.chunks).map(|c| c.last.0 + 1 - c.first.0).sum();
        loop {
            match self.store.append(id, batches.to_vec()).await {
                Ok(answers) => {
                    if answers.iter().any(Result::is_ok) {
                        crate::fail::point("batch-sent");
                    }
                    let writes = &self.metrics.writes;
                    writes.commits.inc();
                    writes.events.inc_by(events);
                    writes.batch_sizes.observe(count as f64);
                    began.inspect(|began| writes.commit.observe(began.elapsed().as_secs_f64()));
                    for (head, answer) in heads.iter().zip(&answers) {
                        match answer {
                            Ok(_) => self.watchers.committed(&head.0, head.1),
                            Err(why) => writes.refused(why),
                        }
                    }
                    return Ok(answers);
                }
                // What breaks a rule of the database is found out before the batches are parted, if it is in what they share.
                Err(StoreError::Rejected(cause) | StoreError::Corrupt(cause))
                    if !planted("rejected-is-tried-again") =>
                {
                    return Err(NotWritten::Rejected(cause));
                }
                Err(StoreError::Unavailable(cause) | StoreError::Rejected(cause))
                    if self.lease.incarnation().is_some() =>
                {
                    let renewals = self.lease.renewals();
                    let is_stuck = group.is_stuck || renewals > *renewed.get_or_insert(renewals);
                    if is_stuck && !planted("rejected-is-tried-again") {
                        return Err(NotWritten::Unavailable(cause));
                    }
                    self.warnings.line(&*self.runtime, |more| {
                        tracing::warn!(cause, more, "the database takes no writes: trying again");
                    });
                    self.runtime.sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    self.warnings.line(&*self.runtime, |more| {
                        tracing::error!(%error, more, "a group of batches could not be written");
                    });
                    self.lease.lose_if_unknown(&error);
                    return Ok(vec![Err(AppendError::ClaimLost); count]);
                }
            }
        }
    }
}
