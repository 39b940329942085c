//! A history for people: as a timeline, as a graph, and the state after an earlier event. This crate is as pure as
//! `history`, and no decision follows from what it makes.

mod as_of;
mod graph;
mod timeline;

pub use as_of::{AsOf, OpenThen, StateThen};
pub use graph::{
    BOX_WIDTH, BoxState, CallBox, Drawing, Graph, Join, PLAN_DEPTH_MAX, PLAN_ENTRIES_MAX, PlacedBox, Plan, Point,
    Repeat, RuleOutcome, Steps, Then, When,
};
pub use timeline::{Bar, BarEnd, Lane, Timeline};
