//! The interface for people and programs: gRPC with health and reflection, REST, `/healthz` and `/metrics`, on one port.
//! This crate only translates; the engine makes all decisions.

mod access;
mod answers;
mod bulk;
mod client;
mod connections;
mod convert;
mod entries;
mod filter;
mod guard;
mod intake;
pub mod json;
mod kinds;
mod listen;
mod moment;
mod otlp;
mod pages;
mod places;
pub mod proto;
mod public_url;
mod rest;
mod scrape;
mod service;
mod span;
mod starts;
mod streams;
mod tls;
mod trace_url;
mod uploads;
mod views;
pub mod wording;

pub use access::ACTIONS;
pub use guard::is_this_machine;
pub use listen::{Bound, Listen, Reach, ServeError, bind};
pub use moment::Moment;
pub use otlp::OtlpExporter;
pub use public_url::PublicUrl;
pub use rest::openapi;
pub use span::Span;
pub use tls::CertificateFiles;
pub use trace_url::TraceUrl;
