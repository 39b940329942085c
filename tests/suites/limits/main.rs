//! Every limit, reached on a real engine that may have 1 GiB of memory. The engine stays alive, others are served, the
//! failure has the documented name, and a restart does not repeat the harm.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

mod capped;
mod clients;
mod components;
mod guests;
