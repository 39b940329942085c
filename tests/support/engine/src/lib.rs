//! The real engine for tests: its own process on a real database, used through its own command line.

mod bystander;
mod clock;
mod cloud;
mod disk;
mod engine;
mod history;
mod http;
mod pace;
mod python;
mod server;
mod wait;

pub use bystander::Bystander;
pub use clock::WallClock;
pub use cloud::Cloud;
pub use disk::Disk;
pub use engine::{Database, Engine, FAILPOINT, Said};
pub use history::assert_one_writer;
pub use http::{http_get, http_post};
pub use pace::Pace;
pub use python::{python, python_build, python_component, python_packages};
pub use rustix::process::Signal;
pub use server::Server;
pub use wait::{WATCHDOG, asked_for, until, within};

use std::path::PathBuf;

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).expect("this crate is three folders deep in the workspace").to_owned()
}

/// A component that `examples/build` has built.
///
/// # Panics
/// When it is missing: the tests are run by `make test`, which builds it.
#[must_use]
pub fn component(name: &str) -> String {
    let path = root().join("target/components").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make examples` first", path.display());
    path.display().to_string()
}

/// A program that `make test` has built.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = root().join("target/release").join(name);
    assert!(path.exists(), "{} is missing: run `make build` first", path.display());
    path
}

/// An empty folder of its own for one test; it stays for inspection when the test fails.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn scratch() -> Scratch {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("cerebelum-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder can be made among the temporary ones");
    Scratch(path)
}

/// A folder that is removed with its test.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Shares compiled components with other engines, since a Python component takes seconds to compile.
    /// `tests/scripts/run` begins without any.
    pub(crate) fn share_artifacts(&self) {
        let (own, shared) = (self.0.join("data"), root().join("target/tests/compiled"));
        for folder in [&own, &shared.join("artifacts")] {
            std::fs::create_dir_all(folder).expect("a folder can be made");
        }
        let key = shared.join("artifact.key");
        if !key.exists() {
            let draft = shared.join(format!("artifact.key-{}", std::process::id()));
            let written = std::fs::write(&draft, [7; 32]).and_then(|()| std::fs::rename(&draft, &key));
            written.expect("a key can be laid beside what it seals");
        }
        for name in ["artifacts", "artifact.key"] {
            std::os::unix::fs::symlink(shared.join(name), own.join(name)).expect("a link can be made in a new folder");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Files that cannot be removed now are removed with the machine's temporary files.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
