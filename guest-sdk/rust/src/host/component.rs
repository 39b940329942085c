//! The engine as seen from inside a component: the imports and exports of the WIT world.

use std::marker::PhantomData;
use std::rc::Rc;

use bindings::cerebelum::guest::{context, durable, http, types};
use bindings::exports::cerebelum::guest::guest::{Guest, Manifest, StepInfo, WorkflowInfo};

use super::deadlock::{keep, open};
use super::{Answer, HttpRequest, HttpResponse, Info, Level, PollPolicy, Question};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::registry::{Grants, Role, registrations, run};
use crate::step::{RetryPolicy, StepOptions};

#[expect(unsafe_code, unused, reason = "generated from the WIT")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "cerebelum:guest/component", generate_all });
    export!(Component with_types_in self);
    use super::Component;
}

/// The exports. They are here and not in the author's crate, which thereby contains no `unsafe` code.
struct Component;

impl Guest for Component {
    fn describe() -> Manifest {
        let (workflows, steps): (Vec<_>, Vec<_>) = registrations().into_iter().partition(|r| r.is_workflow());
        let grants: Vec<_> = inventory::iter::<Grants>.into_iter().collect();
        let names = |of: fn(&Grants) -> &'static [&'static str]| {
            grants.iter().flat_map(|grants| of(grants)).map(|name| (*name).to_owned()).collect()
        };
        Manifest {
            sdk: concat!("rust ", env!("CARGO_PKG_VERSION")).to_owned(),
            workflows: workflows
                .into_iter()
                .map(|r| WorkflowInfo {
                    name: r.name.to_owned(),
                    input_schema: Some(r.input_schema()),
                    output_schema: Some((r.output_schema)()),
                    summary: r.summary.map(str::to_owned),
                })
                .collect(),
            steps: steps
                .into_iter()
                .map(|r| StepInfo {
                    name: r.name.to_owned(),
                    input_schema: Some(r.input_schema()),
                    output_schema: Some((r.output_schema)()),
                    summary: r.summary.map(str::to_owned),
                    options: match &r.role {
                        Role::Step(options) => options.clone().into(),
                        Role::Workflow { .. } => StepOptions::default().into(),
                    },
                })
                .collect(),
            hosts: names(|grants| grants.hosts),
            secrets: names(|grants| grants.secrets),
        }
    }

    async fn workflow(name: String, input: String) -> std::result::Result<String, types::Failure> {
        tell_of_panics();
        keep(run(true, &name, Context { host: Host(PhantomData) }, input)).await.map_err(failure_of)
    }

    async fn step(name: String, input: String) -> std::result::Result<String, types::Failure> {
        tell_of_panics();
        keep(run(false, &name, Context { host: Host(PhantomData) }, input)).await.map_err(failure_of)
    }
}

/// Writes the place and the message of a panic to the guest's log. The standard library's hook would also advise
/// setting a variable, but a component has none.
fn tell_of_panics() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("the guest {panic}"))));
}

/// A handle on the engine. It is not `Send`, like the local executor's handle.
#[derive(Clone)]
pub(crate) struct Host(PhantomData<Rc<()>>);

impl Host {
    pub(crate) async fn sleep(&self, duration_ms: u64) -> Result<()> {
        open(durable::sleep(duration_ms)).await.map_err(error_of)
    }

    pub(crate) async fn run_step(&self, step: String, input: String, options: StepOptions) -> Result<String> {
        open(durable::run_step(types::StepCall { step, input }, options.into())).await.map_err(error_of)
    }

    pub(crate) async fn poll(&self, step: String, input: String, policy: PollPolicy) -> Result<String> {
        let PollPolicy { interval_ms: interval, max_attempts, timeout_ms: timeout } = policy;
        let policy = durable::PollPolicy { interval, max_attempts, timeout };
        open(durable::poll(types::StepCall { step, input }, policy)).await.map_err(error_of)
    }

    pub(crate) async fn await_approval(&self, question: Question) -> Result<Answer> {
        let Question { kind, title, data, schema, timeout_ms: timeout } = question;
        let request = durable::ApprovalRequest { kind, title, data, schema, timeout };
        let durable::Approval { data, by, comment } = open(durable::await_approval(request)).await.map_err(error_of)?;
        Ok(Answer { data, by, comment })
    }

    pub(crate) async fn await_signal(&self, name: String, timeout_ms: Option<u64>) -> Result<String> {
        open(durable::await_signal(name, timeout_ms)).await.map_err(error_of)
    }

    pub(crate) async fn run_workflow(&self, workflow: String, input: String, id: Option<String>) -> Result<String> {
        open(durable::run_workflow(durable::WorkflowCall { workflow, input, id })).await.map_err(error_of)
    }

    pub(crate) async fn start_workflow(&self, workflow: String, input: String, id: Option<String>) -> Result<String> {
        open(durable::start_workflow(durable::WorkflowCall { workflow, input, id })).await.map_err(error_of)
    }

    pub(crate) async fn continue_as_new(&self, input: String) -> Result<()> {
        open(durable::continue_as_new(input)).await.map_err(error_of)
    }

    pub(crate) async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        let HttpRequest { method, url, headers, body, timeout_ms: timeout } = request;
        let response =
            open(http::fetch(http::Request { method, url, headers, body, timeout })).await.map_err(error_of)?;
        Ok(HttpResponse { status: response.status, headers: response.headers, body: response.body })
    }

    pub(crate) fn info(&self) -> Info {
        let context::Info { execution_id, workflow, step, run, attempt, idempotency_key } = context::get_info();
        Info { execution_id, workflow, step, run, attempt, idempotency_key }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        context::now()
    }

    pub(crate) fn progress(&self, percent: u8, message: String) {
        context::progress(percent, &message);
    }

    pub(crate) fn log(&self, level: Level, message: String) {
        let level = match level {
            Level::Debug => context::Level::Debug,
            Level::Info => context::Level::Info,
            Level::Warn => context::Level::Warn,
            Level::Error => context::Level::Error,
        };
        context::log(level, &message);
    }

    pub(crate) fn set_attribute(&self, name: String, value: String) {
        context::set_attribute(&name, &value);
    }
}

impl From<StepOptions> for types::StepOptions {
    fn from(options: StepOptions) -> Self {
        let retry = options.retry.map(|policy| {
            let RetryPolicy { max_attempts, delay_ms: delay, backoff, max_delay_ms: max_delay, jitter } = policy;
            types::RetryPolicy { max_attempts, delay, backoff, max_delay, jitter }
        });
        Self { retry, timeout: options.timeout_ms, deadline: options.deadline_ms }
    }
}

// The bindings make `Failure` a `std::error::Error`, which `?` would wrap like any other. So there is no `From`.

fn failure_of(error: Error) -> types::Failure {
    let (kind, message, details, retryable) = error.into_parts();
    types::Failure { kind, message, details, retryable }
}

fn error_of(failure: types::Failure) -> Error {
    let types::Failure { kind, message, details, retryable } = failure;
    Error::of_parts(kind, message, details, retryable)
}
