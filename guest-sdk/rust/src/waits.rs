//! Waits for time, for a person, and for a message.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::Result;
use crate::host::{Host, Question};
use crate::json::{decode, encode, input_schema};
use crate::time::IntoDuration;

/// `ctx.sleep(days(1)).await?`.
pub type Sleep = Durable<'static, AskSleep>;

/// The request behind [`Sleep`].
pub struct AskSleep {
    host: Host,
    duration: Result<u64>,
}

impl AskSleep {
    pub(crate) fn call(ctx: &Context, duration: impl IntoDuration) -> Sleep {
        Durable::new(Self { host: ctx.host.clone(), duration: duration.into_ms() })
    }
}

impl Ask<'static> for AskSleep {
    type Output = ();

    fn ask(self) -> LocalBoxFuture<'static, Result<()>> {
        async move { self.host.sleep(self.duration?).await }.boxed_local()
    }
}

/// The keyword of the answer's schema under which the engine finds the approvers.
const APPROVERS_KEYWORD: &str = "x-cerebelum-approvers";

/// A person's approval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Approval<T = Value> {
    /// The answer.
    pub data: T,
    /// The person who gave it.
    pub by: String,
    /// The person's comment.
    pub comment: Option<String>,
}

/// `ctx.approval("Go live?").data(&plan).timeout(days(3)).await?`.
pub type AwaitApproval<T = Value> = Durable<'static, AskApproval<T>>;

/// The request behind [`AwaitApproval`].
pub struct AskApproval<T> {
    host: Host,
    kind: String,
    title: String,
    data: Result<String>,
    schema: Option<String>,
    approvers: Option<Vec<String>>,
    timeout: Option<Result<u64>>,
    answer: Yields<T>,
}

impl AskApproval<Value> {
    pub(crate) fn call(ctx: &Context, title: String) -> AwaitApproval {
        Durable::new(Self {
            host: ctx.host.clone(),
            kind: "manual".to_owned(),
            title,
            data: Ok("null".to_owned()),
            schema: None,
            approvers: None,
            timeout: None,
            answer: PhantomData,
        })
    }
}

impl<T: DeserializeOwned + 'static> AwaitApproval<T> {
    /// The kind of this approval; the default is `manual`.
    pub fn kind(self, kind: impl Into<String>) -> Self {
        self.map(|ask| AskApproval { kind: kind.into(), ..ask })
    }

    /// The data that the person needs to see in order to decide.
    pub fn data(self, data: &impl Serialize) -> Self {
        self.map(|ask| AskApproval { data: encode(data), ..ask })
    }

    /// Requires an answer of this type: another answer is refused, with the reason.
    pub fn schema_of<A: DeserializeOwned + JsonSchema + 'static>(self) -> AwaitApproval<A> {
        self.map(|AskApproval { host, kind, title, data, approvers, timeout, .. }| {
            let schema = Some(input_schema::<A>());
            AskApproval { host, kind, title, data, schema, approvers, timeout, answer: PhantomData }
        })
    }

    /// Names the people and roles who may answer, at most 32: the name of a token's owner, or `role:ROLE` with one of
    /// `admin`, `developer`, `operator`, `approver` and `viewer`. Each of them needs the right to answer questions besides.
    /// Without this, every caller with that right may answer.
    pub fn approvers<N: Into<String>>(self, approvers: impl IntoIterator<Item = N>) -> Self {
        let approvers = Some(approvers.into_iter().map(Into::into).collect());
        self.map(|ask| AskApproval { approvers, ..ask })
    }

    /// How long to wait for the answer; then the call fails with kind `approval-timeout`.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|ask| AskApproval { timeout: Some(timeout.into_ms()), ..ask })
    }
}

impl<T: DeserializeOwned + 'static> Ask<'static> for AskApproval<T> {
    type Output = Approval<T>;

    fn ask(self) -> LocalBoxFuture<'static, Result<Approval<T>>> {
        async move {
            let Self { host, kind, title, schema, approvers, .. } = self;
            let schema = match approvers {
                Some(approvers) => Some(with_approvers(schema.as_deref(), approvers)),
                None => schema,
            };
            let question = Question { kind, title, data: self.data?, schema, timeout_ms: self.timeout.transpose()? };
            let answer = host.await_approval(question).await?;
            Ok(Approval { data: decode(&answer.data)?, by: answer.by, comment: answer.comment })
        }
        .boxed_local()
    }
}

/// The schema of the answer, or one that accepts everything, with the list of approvers.
fn with_approvers(schema: Option<&str>, approvers: Vec<String>) -> String {
    let mut members = match schema.map(serde_json::from_str) {
        Some(Ok(Value::Object(members))) => members,
        // `true`, which accepts everything.
        _ => serde_json::Map::new(),
    };
    members.insert(APPROVERS_KEYWORD.to_owned(), approvers.into());
    Value::Object(members).to_string()
}

/// `ctx.signal::<Payment>("paid").timeout("1h").await?`.
pub type AwaitSignal<T> = Durable<'static, AskSignal<T>>;

/// The request behind [`AwaitSignal`].
pub struct AskSignal<T> {
    host: Host,
    name: String,
    timeout: Option<Result<u64>>,
    data: Yields<T>,
}

impl<T: DeserializeOwned + 'static> AskSignal<T> {
    pub(crate) fn call(ctx: &Context, name: String) -> AwaitSignal<T> {
        Durable::new(Self { host: ctx.host.clone(), name, timeout: None, data: PhantomData })
    }
}

impl<T: DeserializeOwned + 'static> AwaitSignal<T> {
    /// How long to wait for the signal; then the call fails with kind `timeout`.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|ask| AskSignal { timeout: Some(timeout.into_ms()), ..ask })
    }
}

impl<T: DeserializeOwned + 'static> Ask<'static> for AskSignal<T> {
    type Output = T;

    fn ask(self) -> LocalBoxFuture<'static, Result<T>> {
        async move { decode(&self.host.await_signal(self.name, self.timeout.transpose()?).await?) }.boxed_local()
    }
}
