//! What the store tells the task that calls it. A task in a call has a connection, or a place in the queue for one, for
//! which tasks of all tenants wait; and a call of SQLite may keep the thread of its task for seconds. A scheduler that lets
//! tasks take turns must know both.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The task that this thread polls.
    static POLLED: RefCell<Option<Arc<dyn CallingTask>>> = const { RefCell::new(None) };
}

/// A task that calls the store.
pub trait CallingTask: Send + Sync {
    /// The task begins a call.
    fn call_begins(&self);

    /// A call of the task ends, or is dropped.
    fn call_ends(&self);

    /// The call that the task is in keeps the task's thread from now on, for as long as the database takes.
    fn blocks(&self);
}

/// Polls a task. The calls that it begins meanwhile are its own.
pub fn poll_calling_task<T>(caller: Arc<dyn CallingTask>, poll: impl FnOnce() -> T) -> T {
    let _restored = Restored(POLLED.replace(Some(caller)));
    poll()
}

/// The task that is polled again once this is dropped, also by a panic.
struct Restored(Option<Arc<dyn CallingTask>>);

impl Drop for Restored {
    fn drop(&mut self) {
        POLLED.set(self.0.take());
    }
}

/// The task that is polled now, if its scheduler said so.
fn polled() -> Option<Arc<dyn CallingTask>> {
    POLLED.with_borrow(Clone::clone)
}

/// Tells the task that is polled now that its thread is kept from now on.
pub fn tell_blocks() {
    polled().iter().for_each(|task| task.blocks());
}

/// A call of the store, until this is dropped.
pub struct StoreCall(Option<Arc<dyn CallingTask>>);

impl StoreCall {
    /// Begins a call of the task that is polled now.
    #[must_use]
    pub fn begin() -> Self {
        let task = polled();
        task.iter().for_each(|task| task.call_begins());
        Self(task)
    }
}

impl Drop for StoreCall {
    fn drop(&mut self) {
        self.0.iter().for_each(|task| task.call_ends());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use futures::FutureExt;

    use super::*;
    use crate::{Filter, TenantId};

    #[derive(Default)]
    struct Counted {
        calls: AtomicUsize,
        blocks: AtomicUsize,
    }

    impl CallingTask for Counted {
        fn call_begins(&self) {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }

        fn call_ends(&self) {
            self.calls.fetch_sub(1, Ordering::Relaxed);
        }

        fn blocks(&self) {
            self.blocks.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counted {
        fn calls(&self) -> usize {
            self.calls.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_call_counts_for_the_task_that_began_it() {
        let (task, other) = (Arc::<Counted>::default(), Arc::<Counted>::default());
        let call = poll_calling_task(task.clone(), || {
            let inner = poll_calling_task(other.clone(), StoreCall::begin);
            assert_eq!((other.calls(), task.calls()), (1, 0));
            drop(inner);
            StoreCall::begin()
        });
        assert_eq!((other.calls(), task.calls()), (0, 1));
        drop(call);
        assert_eq!(task.calls(), 0);
        assert!(StoreCall::begin().0.is_none(), "of no task");
    }

    /// A search of a database file keeps the thread; a look at one row does not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_task_is_told_that_a_search_keeps_its_thread() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("engine.db").display());
        let store = crate::open(&url).await.unwrap();
        let task = Arc::<Counted>::default();
        let blocked = async |mut call: futures::future::BoxFuture<'_, bool>| {
            let before = task.blocks.load(Ordering::Relaxed);
            let poll = |context: &mut Context<'_>| poll_calling_task(task.clone(), || call.as_mut().poll(context));
            assert!(std::future::poll_fn(poll).await);
            task.blocks.load(Ordering::Relaxed) > before
        };
        let search = || store.count(TenantId::DEFAULT, Filter::default(), 10).map(|counted| counted.is_ok()).boxed();
        let look = || store.next_due().map(|due| due.is_ok()).boxed();
        // The first call of each kind opens its connection.
        assert!(blocked(look()).await && blocked(search()).await);
        assert!(blocked(search()).await && !blocked(look()).await);
    }
}
