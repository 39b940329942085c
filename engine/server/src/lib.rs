//! The interface for people and programs: gRPC with health and reflection, `/healthz` and `/metrics`, on one port. This
//! crate only translates; the engine makes all decisions.

mod access;
mod connections;
mod convert;
mod guard;
mod intake;
pub mod json;
mod listen;
pub mod proto;
mod service;
mod streams;

pub use access::ACTIONS;
pub use guard::is_this_machine;
pub use listen::{Bound, ServeError, bind};
