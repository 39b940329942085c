//! A world for executions: a store that crashes, and people and servers that answer.

pub(crate) mod life;
pub(crate) mod store;
