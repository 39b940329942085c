//! The guest that end-to-end tests and benches run: small workflows, driven by their input.
#![allow(missing_docs, unreachable_pub, reason = "a guest for tests; its types are named after what they hold")]

mod hostile;
mod limits;
mod people;
mod plain;
mod sagas;
mod schemas;
#[cfg(not(target_arch = "wasm32"))]
pub mod table;
mod waits;
mod web;

cerebelum::component!(hosts = ["127.0.0.1", "localhost"], secrets = ["TEST_TOKEN"]);
