//! Random programs, native guests that run them, and a model of what they must return.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod audit;
mod guest;
mod program;
mod rng;

pub use audit::audit;
pub use guest::{Guest, json};
pub use program::{CHECK_RETRY, Node, PollNode, Stay, StepNode, expected, programs};
pub use rng::DeterministicRng;
