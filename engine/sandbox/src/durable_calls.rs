//! The durable suspension points of the contract. Each is recorded as a call in the guest's `HostCalls` and waits for
//! its outcome.

use std::sync::Arc;

use cerebelum_history::{Call, Failure, Outcome, kind};
use wasmtime::AsContextMut;
use wasmtime::component::Accessor;

use crate::bindings::{durable, http, types};
use crate::convert;
use crate::limits::{HANDLES_MAX, HANDLES_PER_CALL};
use crate::state::{HostImpl, State};

/// The result of every durable call, as a guest gets it.
type CallResult<T> = Result<T, types::Failure>;

/// Issues a call and waits for its outcome. This is the only await of any host function (L1).
async fn outcome_of(accessor: &Accessor<State, HostImpl>, call: Result<Call, Failure>) -> CallResult<Outcome> {
    let issued = accessor.with(|mut access| {
        let calls = Arc::clone(&access.get().calls);
        let waiting = calls.issue(call?)?;
        access.as_context_mut().set_max_component_handles(HANDLES_MAX + calls.open_calls() * HANDLES_PER_CALL);
        if calls.has_outgrown() {
            // The guest yields at its next instruction instead of at the next tick.
            access.as_context_mut().set_epoch_deadline(0);
        }
        Ok(waiting)
    });
    match issued.map_err(convert::to_failure)?.outcome().await {
        Outcome::Failed(failure) => Err(convert::to_failure(failure)),
        outcome => Ok(outcome),
    }
}

async fn value_of(accessor: &Accessor<State, HostImpl>, call: Result<Call, Failure>) -> CallResult<String> {
    let Outcome::Value(value) = outcome_of(accessor, call).await? else { unreachable!("{ONLY_FITTING}") };
    Ok(convert::to_text(&value))
}

/// The guest's table of calls checks each outcome before it is delivered.
const ONLY_FITTING: &str = "the table lets only fitting outcomes pass";

fn is_step(accessor: &Accessor<State, HostImpl>) -> bool {
    accessor.with(|mut access| access.get().info.step.is_some())
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
        outcome_of(accessor, call).await.map(drop)
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
        let call = convert::approval_request(request).map(Call::Approval);
        let Outcome::Approved(approval) = outcome_of(accessor, call).await? else { unreachable!("{ONLY_FITTING}") };
        Ok(convert::to_approval(approval))
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
        let call = convert::workflow_call(call).map(Call::StartWorkflow);
        let Outcome::Started(id) = outcome_of(accessor, call).await? else { unreachable!("{ONLY_FITTING}") };
        Ok(id.to_string())
    }

    async fn continue_as_new(accessor: &Accessor<State, Self>, input: String) -> CallResult<()> {
        let call = match is_step(accessor) {
            true => Err(Failure::new(kind::NOT_GRANTED, "only a workflow can continue as new")),
            false => convert::json(input, "the next run's input").map(|input| Call::ContinueAsNew { input }),
        };
        outcome_of(accessor, call).await.map(drop)
    }
}

impl http::Host for State {}

impl http::HostWithStore<State> for HostImpl {
    async fn fetch(accessor: &Accessor<State, Self>, request: http::Request) -> CallResult<http::Response> {
        let call = match is_step(accessor) {
            true => convert::http_request(request).map(Call::Fetch),
            false => Err(Failure::new(kind::NOT_GRANTED, "a workflow cannot fetch: effects belong in steps")),
        };
        let Outcome::Responded(response) = outcome_of(accessor, call).await? else { unreachable!("{ONLY_FITTING}") };
        Ok(convert::to_response(response))
    }
}

impl types::Host for State {}
