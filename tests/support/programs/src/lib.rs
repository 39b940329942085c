//! Random programs, native guests that run them, a model of what they must return, and the laws of every history.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod guest;
mod laws;
mod program;
mod rng;

pub use guest::{Guest, json};
pub use laws::{audit, broken_law, broken_law_at_the_end, is_still};
pub use program::{CHECK_RETRY, Node, PollNode, Stay, StepNode, expected, programs};
pub use rng::DeterministicRng;
