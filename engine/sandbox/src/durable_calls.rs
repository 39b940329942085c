//! The durable suspension points of the contract. Each is recorded as a call in the guest's `HostCalls` and waits for
//! its outcome.

use std::sync::Arc;

use cerebelum_history::{Call, Failure, Outcome, kind};
use wasmtime::AsContextMut;
use wasmtime::component::Accessor;

use crate::bindings::{durable, http, types};
use crate::convert;
use crate::state::{HostImpl, State};

/// The result of every durable call, as a guest gets it.
type CallResult<T> = Result<T, types::Failure>;

/// Issues a call and waits for its outcome. This is the only await of any host function (L1).
async fn outcome_of(accessor: &Accessor<State, HostImpl>, call: Result<Call, Failure>) -> Result<Outcome, Failure> {
    let mut waiting = accessor.with(|mut access| {
        let calls = Arc::clone(&access.get().calls);
        let waiting = calls.issue(call?)?;
        if calls.has_outgrown() {
            // The guest yields at its next instruction instead of at the next tick.
            access.as_context_mut().set_epoch_deadline(0);
        }
        Ok(waiting)
    })?;
    match waiting.outcome().await {
        Outcome::Failed(failure) => Err(failure),
        outcome => Ok(outcome),
    }
}

async fn value_of(accessor: &Accessor<State, HostImpl>, call: Result<Call, Failure>) -> CallResult<String> {
    match outcome_of(accessor, call).await {
        Ok(Outcome::Value(value)) => Ok(convert::to_text(&value)),
        Ok(_) => unreachable!("the table lets only fitting outcomes pass"),
        Err(failure) => Err(convert::to_failure(failure)),
    }
}

fn only_in_a_workflow(accessor: &Accessor<State, HostImpl>, what: &str) -> Result<(), Failure> {
    match accessor.with(|mut access| access.get().info.step.is_some()) {
        true => Err(Failure::new(kind::NOT_GRANTED, format!("only a workflow can {what}"))),
        false => Ok(()),
    }
}

impl durable::Host for State {
    fn last_call(&mut self) -> u32 {
        self.calls.last_ordinal()
    }

    fn cancel(&mut self, call: u32) {
        self.calls.cancel(call);
    }
}

impl durable::HostWithStore<State> for HostImpl {
    async fn sleep(accessor: &Accessor<State, Self>, duration: u64) -> CallResult<()> {
        if duration == 0 {
            return Ok(());
        }
        let call = convert::duration_ms(duration, "a sleep").map(|duration_ms| Call::Sleep { duration_ms });
        outcome_of(accessor, call).await.map(|_| ()).map_err(convert::to_failure)
    }

    async fn run_step(
        accessor: &Accessor<State, Self>,
        call: types::StepCall,
        options: types::StepOptions,
    ) -> CallResult<String> {
        let step = convert::step_call(call);
        value_of(accessor, step.and_then(|step| Ok(Call::Step(step, convert::step_options(options)?)))).await
    }

    async fn poll(
        accessor: &Accessor<State, Self>,
        check: types::StepCall,
        policy: durable::PollPolicy,
    ) -> CallResult<String> {
        let step = convert::step_call(check);
        value_of(accessor, step.and_then(|step| Ok(Call::Poll(step, convert::poll_policy(policy)?)))).await
    }

    async fn await_approval(
        accessor: &Accessor<State, Self>,
        request: durable::ApprovalRequest,
    ) -> CallResult<durable::Approval> {
        match outcome_of(accessor, convert::approval_request(request).map(Call::Approval)).await {
            Ok(Outcome::Approved(approval)) => Ok(convert::to_approval(approval)),
            Ok(_) => unreachable!("the table lets only fitting outcomes pass"),
            Err(failure) => Err(convert::to_failure(failure)),
        }
    }

    async fn await_signal(accessor: &Accessor<State, Self>, name: String, timeout: Option<u64>) -> CallResult<String> {
        let name = convert::name(name, "a signal's name");
        let call = name.and_then(|name| Ok(Call::Signal { name, timeout_ms: convert::timeout_ms(timeout)? }));
        value_of(accessor, call).await
    }

    async fn run_workflow(accessor: &Accessor<State, Self>, call: durable::WorkflowCall) -> CallResult<String> {
        value_of(accessor, convert::workflow_call(call).map(Call::RunWorkflow)).await
    }

    async fn start_workflow(accessor: &Accessor<State, Self>, call: durable::WorkflowCall) -> CallResult<String> {
        match outcome_of(accessor, convert::workflow_call(call).map(Call::StartWorkflow)).await {
            Ok(Outcome::Started(id)) => Ok(id.to_string()),
            Ok(_) => unreachable!("the table lets only fitting outcomes pass"),
            Err(failure) => Err(convert::to_failure(failure)),
        }
    }

    async fn continue_as_new(accessor: &Accessor<State, Self>, input: String) -> CallResult<()> {
        let allowed = only_in_a_workflow(accessor, "continue as new");
        let input = allowed.and_then(|()| convert::json(input, "the next run's input"));
        let call = input.map(|input| Call::ContinueAsNew { input });
        outcome_of(accessor, call).await.map(|_| ()).map_err(convert::to_failure)
    }
}

impl http::Host for State {}

impl http::HostWithStore<State> for HostImpl {
    async fn fetch(accessor: &Accessor<State, Self>, request: http::Request) -> CallResult<http::Response> {
        let is_step = accessor.with(|mut access| access.get().info.step.is_some());
        let granted = match is_step {
            true => Ok(()),
            false => Err(Failure::new(kind::NOT_GRANTED, "a workflow cannot fetch: effects belong in steps")),
        };
        let call = granted.and_then(|()| convert::http_request(request)).map(Call::Fetch);
        match outcome_of(accessor, call).await {
            Ok(Outcome::Responded(response)) => Ok(convert::to_response(response)),
            Ok(_) => unreachable!("the table lets only fitting outcomes pass"),
            Err(failure) => Err(convert::to_failure(failure)),
        }
    }
}

impl types::Host for State {}
