//! A span, and the trait of those who send it.

use std::sync::Arc;

use cerebelum_history::{SpanContext, Timestamp};
use futures::future::BoxFuture;

/// Sending spans; the error is one line for the log.
pub type Exporting<'a> = BoxFuture<'a, Result<(), String>>;

/// Sends spans to a collector.
pub trait SpanExporter: Send + Sync {
    /// Sends these spans. Spans that could not be sent are lost.
    fn export(&self, spans: Vec<Span>) -> Exporting<'_>;
}

/// Something that took place in an execution and is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its name among all spans.
    pub context: SpanContext,
    /// The span that it belongs to, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// The `tracestate` of the trace.
    pub state: Option<String>,
    /// The name that a person reads.
    pub name: String,
    /// Whether it is a request to another service.
    pub kind: SpanKind,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its attributes.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Spans of other traces that it has to do with.
    pub links: Vec<SpanLink>,
    /// The kind of its failure, if it failed.
    pub failure: Option<String>,
}

/// The role of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Within the engine.
    Internal,
    /// A request to another service.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A text.
    Text(Arc<str>),
    /// A whole number.
    Integer(i64),
    /// A number of seconds.
    Seconds(f64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for AttributeValue {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

/// A span of another trace, and what it is to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLink {
    /// The other span.
    pub context: SpanContext,
    /// `start`, `previous` or `cause`.
    pub what: &'static str,
}

impl Span {
    /// Adds an attribute.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// The same span, failed with this kind of failure.
    #[must_use]
    pub(super) fn failed(mut self, kind: &str) -> Self {
        self.failure = Some(kind.to_owned());
        self
    }
}
