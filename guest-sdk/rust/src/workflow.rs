//! Workflows: how they are declared, and how a workflow runs or starts another one.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::Result;
use crate::host::Host;
use crate::json::Data;

/// A workflow. `#[workflow]` on a function makes a type of the same name that implements this, besides the function
/// that calls it.
pub trait Workflow: 'static {
    /// The name in the component.
    const NAME: &'static str;
    /// The first paragraph of the doc comment.
    const SUMMARY: Option<&'static str>;
    /// How long the clean-up may take after a cancel, in milliseconds; none for no limit.
    const CANCEL_GRACE_MS: Option<u64> = None;
    /// The type of the input; `()` without one.
    type Input: Data;
    /// The type of the output.
    type Output: Data;

    /// The body.
    fn run(ctx: Context, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + 'static;
}

/// A function made by `#[workflow]`, for functions that take a workflow without calling it.
#[diagnostic::on_unimplemented(message = "expected a function with `#[workflow]`", label = "not a workflow")]
pub trait IsWorkflow<W: Workflow, Arity> {}

impl<W: Workflow, F: Fn(&Context, W::Input) -> WorkflowRun<W>> IsWorkflow<W, (W::Input,)> for F {}
impl<W: Workflow, F: Fn(&Context) -> WorkflowRun<W>> IsWorkflow<W, ()> for F {}

/// A child execution that is awaited, and cancelled with its parent: `ctx.run_workflow(child, input).await?`.
pub type WorkflowRun<W> = Durable<'static, AskWorkflow<W, <W as Workflow>::Output>>;

/// The same for a workflow given by name: `component/workflow` for a workflow of another component.
pub type WorkflowByName<T> = Durable<'static, AskWorkflow<(), T>>;

/// An execution that outlives the one that starts it; yields its id.
pub type WorkflowStart = Durable<'static, AskStart>;

/// The request behind [`WorkflowRun`]: workflow `W` (`()` when only its name is known) yielding `T`.
pub struct AskWorkflow<W, T> {
    call: Child,
    yields: Yields<(W, T)>,
}

/// The request behind [`WorkflowStart`].
pub struct AskStart(Child);

struct Child {
    host: Host,
    workflow: String,
    input: Result<String>,
    id: Option<String>,
}

impl Child {
    fn new(ctx: &Context, workflow: &str, input: Result<String>) -> Self {
        Self { host: ctx.host.clone(), workflow: workflow.to_owned(), input, id: None }
    }
}

impl<W: Workflow> WorkflowRun<W> {
    /// The call of a child; the function that `#[workflow]` makes is only this.
    pub fn of(ctx: &Context, input: W::Input) -> Self {
        AskWorkflow::call(ctx, W::NAME, input.to_json())
    }
}

impl<W: 'static, T: Data> AskWorkflow<W, T> {
    pub(crate) fn call(ctx: &Context, workflow: &str, input: Result<String>) -> Durable<'static, Self> {
        Durable::new(Self { call: Child::new(ctx, workflow, input), yields: PhantomData })
    }
}

impl AskStart {
    pub(crate) fn call(ctx: &Context, workflow: &str, input: Result<String>) -> WorkflowStart {
        Durable::new(Self(Child::new(ctx, workflow, input)))
    }
}

impl<W: 'static, T: Data> Durable<'static, AskWorkflow<W, T>> {
    /// Gives the child this execution id instead of one derived from its parent.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.map(|ask| AskWorkflow { call: Child { id: Some(id.into()), ..ask.call }, ..ask })
    }
}

impl WorkflowStart {
    /// Gives the new execution this id instead of one derived from this execution.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.map(|AskStart(call)| AskStart(Child { id: Some(id.into()), ..call }))
    }
}

impl<W: 'static, T: Data> Ask<'static> for AskWorkflow<W, T> {
    type Output = T;

    fn ask(self) -> LocalBoxFuture<'static, Result<T>> {
        let Child { host, workflow, input, id } = self.call;
        async move { T::from_json(&host.run_workflow(workflow, input?, id).await?) }.boxed_local()
    }
}

impl Ask<'static> for AskStart {
    type Output = String;

    fn ask(self) -> LocalBoxFuture<'static, Result<String>> {
        let Child { host, workflow, input, id } = self.0;
        async move { host.start_workflow(workflow, input?, id).await }.boxed_local()
    }
}
