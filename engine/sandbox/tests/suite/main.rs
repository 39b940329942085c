//! The sandbox from outside: real guests, one behaviour per test.

mod calls;
mod limits;
mod quiescence;
mod room;
mod support;
mod text_components;
mod uploads;
