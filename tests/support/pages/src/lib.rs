//! A real browser for tests of pages, and engines that have every page in every state.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

mod browser;
mod gallery;

pub use browser::{Browser, ENTER, Scheme, TAB};
pub use gallery::{Gallery, Who};
