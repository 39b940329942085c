//! A bystander on the same machine that sends no requests to the engine. When it is delayed for as long as the engine,
//! the machine is slow, or busy with other work, and not the engine.

use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Sleeps for 10 ms and writes a byte to disk, over and over.
pub struct Bystander {
    here: Arc<()>,
    thread: JoinHandle<Duration>,
}

impl Bystander {
    /// Begins.
    #[must_use]
    pub fn begin() -> Self {
        let here = Arc::new(());
        let there = Arc::downgrade(&here);
        let thread = std::thread::spawn(move || {
            let mut file = tempfile::tempfile().expect("a file can be made");
            let (nap, mut longest) = (Duration::from_millis(10), Duration::ZERO);
            while there.strong_count() > 0 {
                let began = Instant::now();
                std::thread::sleep(nap);
                file.write_all(b".").expect("the file can be written");
                file.sync_data().expect("the file reaches the disk");
                longest = longest.max(began.elapsed().saturating_sub(nap));
            }
            longest
        });
        Self { here, thread }
    }

    /// Ends, and returns the longest delay.
    ///
    /// # Panics
    /// When its file could not be written.
    #[must_use]
    pub fn end(self) -> Duration {
        drop(self.here);
        self.thread.join().expect("the bystander had no trouble")
    }
}
