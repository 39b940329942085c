//! Memory for incoming answers, in bytes: limited per execution and per engine.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of answers an execution may have in memory, from their arrival until they are durable.
pub(crate) const EXECUTION_ANSWER_BYTES_MAX: usize = 32 << 20;
/// The limit for all executions of an engine together, in addition to one answer that may always be completed.
pub(crate) const ENGINE_ANSWER_BYTES_MAX: usize = 128 << 20;

/// An engine's memory for answers.
#[derive(Debug, Clone)]
pub(crate) struct AnswerMemory {
    bytes: Arc<Semaphore>,
    /// One answer at a time may exceed the limit. Answers of unknown size can fill the memory together, each with a
    /// part of itself; this one is completed nevertheless and then frees memory.
    overdraft: Arc<Semaphore>,
}

impl AnswerMemory {
    /// Creates memory for this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), overdraft: Arc::new(Semaphore::new(1)) }
    }

    /// The share of one execution.
    pub(crate) fn share(&self, bytes_max: usize) -> ExecutionMemory {
        ExecutionMemory { engine: self.clone(), bytes: Arc::new(Semaphore::new(bytes_max)) }
    }
}

/// The memory of one execution for answers, within that of its engine.
#[derive(Debug, Clone)]
pub(crate) struct ExecutionMemory {
    engine: AnswerMemory,
    bytes: Arc<Semaphore>,
}

impl ExecutionMemory {
    /// Memory for an answer that has not arrived yet.
    pub(crate) fn room(&self) -> Room {
        Room { memory: self.clone(), bytes: 0, held: Vec::new(), is_overdrawn: false }
    }
}

/// The memory that one answer takes. It is given back when dropped.
#[derive(Debug)]
pub struct Room {
    memory: ExecutionMemory,
    bytes: usize,
    held: Vec<OwnedSemaphorePermit>,
    is_overdrawn: bool,
}

impl Room {
    /// Waits until the answer may take this many bytes in all.
    pub async fn grow_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes = self.bytes.max(bytes);
        if more == 0 || self.is_overdrawn {
            return;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let ExecutionMemory { engine, bytes } = self.memory.clone();
        let within = async {
            let own = bytes.acquire_many_owned(more).await;
            let shared = engine.bytes.acquire_many_owned(more).await;
            [own, shared].map(|permit| permit.expect("nobody closes it"))
        };
        tokio::select! {
            biased;
            permits = within => self.held.extend(permits),
            // The holder of the overdraft waits for no further memory, so it cannot be part of a deadlock.
            permit = engine.overdraft.acquire_owned() => {
                self.held.push(permit.expect("nobody closes it"));
                self.is_overdrawn = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn answers_beyond_the_memory_wait_and_go_on_when_another_one_is_put_away() {
        let engine = AnswerMemory::new(100);
        let execution = engine.share(100);
        let (mut a, mut b, mut c) = (execution.room(), execution.room(), execution.room());
        a.grow_to(90).now_or_never().expect("there is room");
        b.grow_to(90).now_or_never().expect("one may exceed it");
        assert!(c.grow_to(90).now_or_never().is_none(), "no more than one");
        drop(a);
        c.grow_to(90).now_or_never().expect("there is room again");
        drop((b, c));
        assert_eq!((engine.bytes.available_permits(), engine.overdraft.available_permits()), (100, 1));
    }

    #[tokio::test]
    async fn one_execution_cannot_take_the_memory_of_all() {
        let engine = AnswerMemory::new(100);
        let (greedy, modest) = (engine.share(20), engine.share(20));
        let mut rooms: Vec<_> = (0..9).map(|_| greedy.room()).collect();
        let grown = rooms.iter_mut().filter_map(|room| room.grow_to(15).now_or_never()).count();
        assert_eq!(grown, 2, "one within its share, and the one that may exceed it");
        modest.room().grow_to(20).now_or_never().expect("others have theirs");
    }

    #[tokio::test]
    async fn answers_that_grow_together_all_arrive() {
        let engine = AnswerMemory::new(100);
        let of_engine = |count: usize| (0..count).map(|_| engine.share(40)).collect::<Vec<_>>();
        let arriving = of_engine(5).into_iter().flat_map(|execution| {
            (0..5).map(move |_| {
                let mut room = execution.room();
                async move {
                    for bytes in (0..=30).step_by(3) {
                        room.grow_to(bytes).await;
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        let all = futures::future::join_all(arriving);
        tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("none waits for ever");
        assert_eq!((engine.bytes.available_permits(), engine.overdraft.available_permits()), (100, 1));
    }
}
