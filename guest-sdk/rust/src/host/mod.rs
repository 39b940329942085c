//! The host side of every durable call: the engine in a component, the local executor in a test.

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod deadlock;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native;

#[cfg(target_arch = "wasm32")]
pub(crate) use component::Host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::Host;

// Both hosts have the same methods: `sleep`, `run_step`, `poll`, `await_approval`, `await_signal`, `run_workflow`,
// `start_workflow`, `continue_as_new`, `fetch`, and without waiting `info`, `now_ms`, `progress`, `log`,
// `set_attribute`. The compiler enforces this, because every caller is compiled against both.

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author.
    Debug,
    /// For a curious reader.
    Info,
    /// Something looks odd.
    Warn,
    /// Something went wrong.
    Error,
}

pub(crate) struct Info {
    pub(crate) execution_id: String,
    pub(crate) workflow: String,
    pub(crate) step: Option<String>,
    pub(crate) run: u32,
    pub(crate) attempt: u32,
    pub(crate) idempotency_key: String,
}

pub(crate) struct PollPolicy {
    pub(crate) interval_ms: u64,
    pub(crate) max_attempts: u32,
    pub(crate) timeout_ms: Option<u64>,
}

pub(crate) struct Question {
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) data: String,
    pub(crate) schema: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
}

pub(crate) struct Answer {
    pub(crate) data: String,
    pub(crate) by: String,
    pub(crate) comment: Option<String>,
}

#[derive(Debug)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout_ms: Option<u64>,
}

pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}
