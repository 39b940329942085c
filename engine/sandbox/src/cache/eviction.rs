//! Removes the artifacts that were not used for the longest time, when all of them take too much space. Their components
//! are compiled again when something needs them.

use std::fs::{self, File};
use std::time::SystemTime;

use cerebelum_history::Digest;

use super::{Cache, of_component};

impl Cache {
    /// Removes artifacts until the others take at most `bytes_max`. The last one that was used stays in any case.
    pub(crate) fn shrink(&self, bytes_max: u64) {
        let mut bytes = self.bytes();
        if bytes <= bytes_max {
            return;
        }
        let mut used: Vec<(SystemTime, Digest)> =
            self.components().map(|digest| (self.kept_at(&of_component(&digest)), digest)).collect();
        used.sort_unstable();
        used.pop();
        for (_, digest) in used {
            self.forget(&digest);
            let before = std::mem::replace(&mut bytes, self.bytes());
            tracing::info!(%digest, freed = before.saturating_sub(bytes), "compiled code was not used for long");
            if bytes <= bytes_max {
                return;
            }
        }
    }

    /// Notes that an artifact is used now.
    pub(super) fn touch(&self, name: &str) {
        let touched = File::options().write(true).open(self.seal_file(name));
        // On failure it is only removed earlier than others.
        let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// The size of all files in the folder.
    fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|about| about.len()).sum()
    }
}
