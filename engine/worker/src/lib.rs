//! The loop: claim → replay → perform → commit. `activation.rs` is the file to read first.

mod activation;
mod ahead;
mod api;
mod appender;
mod asking;
mod audit;
mod batch;
mod beginning;

mod clock;
mod commit;
mod committer;
mod config;
mod directory;
mod effects;
mod engine;
mod fail;
mod fetch;
mod follow;
mod guests;
mod journals;
mod lease;
mod liveness;
mod metrics;
mod node;
mod outside;
mod poison;
mod requests;
mod restore;
mod retention;
mod schema;
mod supervise;
mod throttle;
mod trouble;
mod verbs;
mod views;
mod wake;
mod warm;
mod watchers;

pub use api::*;
pub use cerebelum_history::ReopenMode;
pub use config::{Config, LEASE_MIN};
pub use engine::Engine;
pub use outside::{Grants, Guest, Machine, Outside, Program, Programs, Room, Web};
