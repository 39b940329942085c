//! Converts between the types of the WIT contract and those of the engine, and rejects invalid arguments.

use cerebelum_history::{
    Approval, ApprovalRequest, Approvers, ExecutionId, Failure, HttpRequest, HttpResponse, InvalidJson, Json,
    PollPolicy, RetryPolicy, StepCall, StepOptions, WorkflowCall, kind,
};

use crate::bindings::{durable, http, types};
use crate::host_calls::cut;
use crate::limits::TEXT_BYTES_MAX;
use crate::schema::Schema;
use cerebelum_history::{NAME_BYTES_MAX, WAIT_MS_MAX};

/// The failure for an invalid argument.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(kind::INVALID_ARGUMENT, message)
}

/// Parses a value that a guest passes. `what` names it in the failure.
pub(crate) fn json(text: String, what: &str) -> Result<Json, Failure> {
    Json::parse(text).map_err(|error| match error {
        InvalidJson::TooLarge(_) => Failure::new(kind::OUTPUT_TOO_LARGE, format!("{what}: {error}")),
        InvalidJson::Malformed(_) | InvalidJson::TooDeep => invalid(format!("{what}: {error}")),
    })
}

/// Checks that a duration is at most a year.
pub(crate) fn duration_ms(ms: u64, what: &str) -> Result<u64, Failure> {
    if ms <= WAIT_MS_MAX {
        return Ok(ms);
    }
    Err(invalid(format!("{what} of {ms} ms is longer than a year ({WAIT_MS_MAX} ms)")))
}

pub(crate) fn timeout_ms(ms: Option<u64>) -> Result<Option<u64>, Failure> {
    ms.map(|ms| duration_ms(ms, "a timeout")).transpose()
}

/// Checks that a name is neither empty nor too long.
pub(crate) fn name(name: String, what: &str) -> Result<String, Failure> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let shown = cut(&name, 40).escape_debug().to_string();
        return Err(invalid(format!("{what} has 1 to {NAME_BYTES_MAX} bytes, `{shown}` has {}", name.len())));
    }
    Ok(name)
}

fn text(text: String, what: &str) -> Result<String, Failure> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid(format!("{what} has at most {TEXT_BYTES_MAX} bytes, this one has {}", text.len())));
    }
    Ok(text)
}

pub(crate) fn step_call(call: types::StepCall) -> Result<StepCall, Failure> {
    Ok(StepCall { step: name(call.step, "a step's name")?, input: json(call.input, "a step's input")? })
}

pub(crate) fn step_options(options: types::StepOptions) -> Result<StepOptions, Failure> {
    Ok(StepOptions {
        retry: options.retry.map(retry_policy).transpose()?,
        timeout_ms: timeout_ms(options.timeout)?,
        deadline_ms: options.deadline.map(|ms| duration_ms(ms, "a deadline")).transpose()?,
    })
}

fn retry_policy(policy: types::RetryPolicy) -> Result<RetryPolicy, Failure> {
    if policy.max_attempts == 0 {
        return Err(invalid("a retry policy allows at least 1 attempt"));
    }
    if !(policy.backoff.is_finite() && policy.backoff >= 0.0) {
        return Err(invalid(format!("a backoff factor is a positive number, not {}", policy.backoff)));
    }
    if !(0.0..=1.0).contains(&policy.jitter) {
        return Err(invalid(format!("a jitter is between 0 and 1, not {}", policy.jitter)));
    }
    Ok(RetryPolicy {
        max_attempts: policy.max_attempts,
        delay_ms: duration_ms(policy.delay, "a delay")?,
        backoff: policy.backoff,
        delay_ms_max: duration_ms(policy.max_delay, "a longest delay")?,
        jitter: policy.jitter,
    })
}

pub(crate) fn poll_policy(policy: durable::PollPolicy) -> Result<PollPolicy, Failure> {
    if policy.max_attempts == 0 {
        return Err(invalid("a poll makes at least 1 attempt"));
    }
    Ok(PollPolicy {
        interval_ms: duration_ms(policy.interval, "an interval")?,
        max_attempts: policy.max_attempts,
        timeout_ms: timeout_ms(policy.timeout)?,
    })
}

pub(crate) fn approval_request(asked: durable::ApprovalRequest) -> Result<ApprovalRequest, Failure> {
    Ok(ApprovalRequest {
        kind: name(asked.kind, "an approval's kind")?,
        title: text(asked.title, "an approval's title")?,
        data: json(asked.data, "an approval's data")?,
        schema: asked.schema.map(schema).transpose()?,
        timeout_ms: timeout_ms(asked.timeout)?,
    })
}

/// Checks the schema of an approval's answer, and the list of approvers in it. Its limits depend on its text alone, so
/// that every rerun of the guest gets the same result.
fn schema(text: String) -> Result<Json, Failure> {
    let json = json(text, "an approval's schema")?;
    Schema::parse(json.as_str()).map_err(|why| invalid(format!("an approval's schema is not accepted: {why}")))?;
    Approvers::of(Some(&json)).map_err(|why| invalid(format!("an approval's approvers are not accepted: {why}")))?;
    Ok(json)
}

pub(crate) fn workflow_call(call: durable::WorkflowCall) -> Result<WorkflowCall, Failure> {
    let id = call.id.map(|id| id.parse::<ExecutionId>()).transpose();
    Ok(WorkflowCall {
        workflow: name(call.workflow, "a workflow's name")?,
        input: json(call.input, "a workflow's input")?,
        id: id.map_err(|error| invalid(error.to_string()))?,
    })
}

pub(crate) fn http_request(request: http::Request) -> Result<HttpRequest, Failure> {
    Ok(HttpRequest {
        method: name(request.method, "a method")?,
        url: text(request.url, "a URL")?,
        headers: request.headers,
        body: request.body,
        timeout_ms: timeout_ms(request.timeout)?,
    })
}

pub(crate) fn to_response(response: HttpResponse) -> http::Response {
    http::Response { status: response.status, headers: response.headers, body: response.body }
}

pub(crate) fn to_approval(approval: Approval) -> durable::Approval {
    durable::Approval { data: to_text(&approval.data), by: approval.by, comment: approval.comment }
}

pub(crate) fn to_text(json: &Json) -> String {
    json.as_str().to_owned()
}

pub(crate) fn to_failure(failure: Failure) -> types::Failure {
    types::Failure {
        kind: failure.kind,
        message: failure.message,
        details: failure.details.as_ref().map(to_text),
        retryable: failure.retryable,
    }
}

/// Converts a failure that a guest returns. It is kept as it is, within limits.
pub(crate) fn from_failure(failure: types::Failure) -> Failure {
    let details = failure.details.map(|text| {
        let beginning = cut(&text, TEXT_BYTES_MAX).to_owned();
        // Details that are not valid JSON are still worth reading.
        Json::parse(text).unwrap_or_else(|_| Json::of(&beginning))
    });
    Failure { kind: failure.kind, message: failure.message, details, retryable: failure.retryable }.within_limits()
}
