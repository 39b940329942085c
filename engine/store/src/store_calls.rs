//! Whether a task is in a call of the store. Such a task has a connection, or a place in the queue for one, for which
//! tasks of all tenants wait: a scheduler that lets tasks take turns must not make it wait for its turn.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Of the task that this thread polls.
    static POLLED: RefCell<Option<StoreCalls>> = const { RefCell::new(None) };
}

/// The calls of the store in which a task is.
#[derive(Debug, Clone, Default)]
pub struct StoreCalls(Arc<AtomicUsize>);

impl StoreCalls {
    /// Whether the task is in any.
    #[must_use]
    pub fn are_any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// Polls the task. The calls that it begins meanwhile are counted here.
    pub fn during<T>(&self, poll: impl FnOnce() -> T) -> T {
        let _restored = Restored(POLLED.replace(Some(self.clone())));
        poll()
    }
}

/// The task that is polled again once this is dropped, also by a panic.
struct Restored(Option<StoreCalls>);

impl Drop for Restored {
    fn drop(&mut self) {
        POLLED.set(self.0.take());
    }
}

/// A call of the store, until this is dropped.
#[derive(Debug)]
pub struct StoreCall(Option<StoreCalls>);

impl StoreCall {
    /// Counts a call of the task that is polled now.
    #[must_use]
    pub fn begin() -> Self {
        let task = POLLED.with_borrow(Clone::clone);
        task.iter().for_each(|task| _ = task.0.fetch_add(1, Ordering::AcqRel));
        Self(task)
    }
}

impl Drop for StoreCall {
    fn drop(&mut self) {
        self.0.iter().for_each(|task| _ = task.0.fetch_sub(1, Ordering::AcqRel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_for_the_task_that_began_it() {
        let (task, other) = (StoreCalls::default(), StoreCalls::default());
        let call = task.during(|| {
            let inner = other.during(StoreCall::begin);
            assert!(other.are_any() && !task.are_any());
            drop(inner);
            StoreCall::begin()
        });
        assert!(task.are_any() && !other.are_any());
        drop(call);
        assert!(!task.are_any());
        let nobodys = StoreCall::begin();
        assert!(nobodys.0.is_none());
    }
}
