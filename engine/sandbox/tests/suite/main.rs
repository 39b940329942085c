//! Tests the sandbox through its API with real guests, one behaviour per test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod limits;
mod quiescence;
mod room;
mod schemas;
mod sharing;
mod support;
mod text_components;
mod uploads;
