//! Lets people and programs in: gRPC with health and reflection, `/healthz` and `/metrics`, on one port. Translates, never decides.

mod connections;
mod convert;
mod guard;
mod intake;
pub mod json;
mod listen;
pub mod proto;
mod service;
mod streams;

pub use listen::{Bound, ServeError, bind};
