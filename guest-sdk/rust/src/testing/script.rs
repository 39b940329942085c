//! The answers that a test sets up: closures for steps and servers, decisions for approvals.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use cerebelum_history::{ApprovalRequest, Json, Message};
use futures::future::{FutureExt, LocalBoxFuture};
use http::{Request, Response};
use serde::Serialize;

use super::guest::Body;
use crate::context::Context;
use crate::error::Result;
use crate::json::{decode, encode};
use crate::time::IntoDuration;

type Server = Box<dyn FnMut(Request<Vec<u8>>) -> Result<Response<Vec<u8>>>>;

pub(super) struct Script {
    /// By whether it is a workflow, and by its name, with the component if that is another one.
    bodies: HashMap<(bool, String), Body>,
    pub(super) approvals: Vec<(String, Box<dyn Answers>)>,
    pub(super) http: Option<Server>,
    /// Messages to the execution from outside, each with the milliseconds after which it is sent.
    pub(super) messages: Vec<(u64, Message)>,
}

impl Script {
    pub(super) fn new() -> Self {
        Self { bodies: HashMap::new(), approvals: Vec::new(), http: None, messages: Vec::new() }
    }

    pub(super) fn put(
        &mut self,
        is_workflow: bool,
        name: &str,
        body: impl Fn(Context, String) -> LocalBoxFuture<'static, Result<String>> + 'static,
    ) {
        self.bodies.insert((is_workflow, name.to_owned()), Rc::new(body));
    }

    /// Replaces a body with a closure from JSON text to JSON text.
    pub(super) fn replace(
        &mut self,
        is_workflow: bool,
        name: &str,
        instead: impl FnMut(&str) -> Result<String> + 'static,
    ) {
        let instead = Rc::new(RefCell::new(instead));
        self.put(is_workflow, name, move |_, input| {
            let instead = instead.clone();
            async move { instead.borrow_mut()(&input) }.boxed_local()
        });
    }

    pub(super) fn body(&self, is_workflow: bool, name: &str) -> Option<Body> {
        self.bodies.get(&(is_workflow, name.to_owned())).cloned()
    }

    /// The decision about this question, if there is one.
    pub(super) fn decide(&mut self, execution: &str, request: &ApprovalRequest) -> Option<Decision> {
        let (_, answers) = self.approvals.iter_mut().find(|(title, _)| *title == request.title)?;
        let asked = Asked {
            execution_id: execution.to_owned(),
            kind: request.kind.clone(),
            title: request.title.clone(),
            data: decode(request.data.as_str()).unwrap_or_default(),
        };
        Some(answers.answer(&asked))
    }
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The execution that asks.
    pub execution_id: String,
    /// The kind of the approval.
    pub kind: String,
    /// The question.
    pub title: String,
    /// The data that the person needs to see.
    pub data: serde_json::Value,
}

/// A person's answer to a question, and the time after which it comes.
#[derive(Debug, Clone)]
pub struct Decision {
    pub(super) after_ms: u64,
    pub(super) by: String,
    pub(super) comment: Option<String>,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Approve(Json),
    Reject(String),
    Silence,
}

/// Approves, with an answer.
///
/// # Panics
/// When the answer has no JSON form.
#[must_use]
pub fn approve(data: &impl Serialize) -> Decision {
    Decision::new(Verdict::Approve(json(encode(data))))
}

/// Rejects.
#[must_use]
pub fn reject(reason: impl Into<String>) -> Decision {
    Decision::new(Verdict::Reject(reason.into()))
}

/// Does not answer: the question times out, if it has a timeout.
#[must_use]
pub fn silence() -> Decision {
    Decision::new(Verdict::Silence)
}

impl Decision {
    fn new(verdict: Verdict) -> Self {
        Self { after_ms: 0, by: "test".to_owned(), comment: None, verdict }
    }

    /// Answers only this long after the question was asked.
    ///
    /// # Panics
    /// When a text is not a valid duration.
    #[must_use]
    pub fn after(self, wait: impl IntoDuration) -> Self {
        Self { after_ms: ms(wait), ..self }
    }

    /// The name of the person who decides; the default is `test`.
    #[must_use]
    pub fn by(self, who: impl Into<String>) -> Self {
        Self { by: who.into(), ..self }
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }
}

/// Answers to questions: a [`Decision`], or a closure that makes one.
pub trait Answers {
    /// The decision about this question.
    fn answer(&mut self, asked: &Asked) -> Decision;
}

impl Answers for Decision {
    fn answer(&mut self, _: &Asked) -> Decision {
        self.clone()
    }
}

impl<F: FnMut(&Asked) -> Decision> Answers for F {
    fn answer(&mut self, asked: &Asked) -> Decision {
        self(asked)
    }
}

/// The type that a server's closure may return: a response, or an error instead of one.
pub trait Reply {
    /// The reply as a result.
    ///
    /// # Errors
    /// When there is no response: the step gets this error.
    fn into_result(self) -> Result<Response<Vec<u8>>>;
}

impl Reply for Response<Vec<u8>> {
    fn into_result(self) -> Result<Response<Vec<u8>>> {
        Ok(self)
    }
}

impl Reply for Result<Response<Vec<u8>>> {
    fn into_result(self) -> Self {
        self
    }
}

/// A response of this status and body.
///
/// # Panics
/// When the status is not valid.
#[must_use]
pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let status = http::StatusCode::from_u16(status).expect("a status is a number from 100 to 999");
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// A value from the test itself, as the history keeps it.
pub(super) fn json(text: Result<String>) -> Json {
    Json::parse(text.expect("a test's own value has a JSON form")).expect("a test's own value is within the limits")
}

/// A duration from the test itself, in milliseconds.
pub(super) fn ms(wait: impl IntoDuration) -> u64 {
    wait.into_ms().expect("a test's own duration is one")
}

/// A number of milliseconds as a [`Duration`].
pub(super) const fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
