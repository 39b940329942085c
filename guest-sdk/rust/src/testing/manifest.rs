//! The manifest that this program would return when it is uploaded.

use serde_json::{Value, json};

use crate::registry::{Grants, Registration, Role, registrations};

/// The manifest of this program: workflows and steps with their schemas, hosts, secrets.
#[must_use]
pub fn manifest() -> Value {
    let (workflows, steps): (Vec<_>, Vec<_>) = registrations().into_iter().partition(|r| r.is_workflow());
    let describe = |all: Vec<&Registration>| all.into_iter().map(entry).collect::<Vec<_>>();
    let grants: Vec<_> = inventory::iter::<Grants>.into_iter().collect();
    let names = |of: fn(&Grants) -> &'static [&'static str]| grants.iter().flat_map(|g| of(g)).collect::<Vec<_>>();
    json!({
        "workflows": describe(workflows),
        "steps": describe(steps),
        "hosts": names(|grants| grants.hosts),
        "secrets": names(|grants| grants.secrets),
    })
}

fn entry(of: &Registration) -> Value {
    let schema = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
    let mut entry = json!({
        "name": of.name,
        "summary": of.summary,
        "input_schema": schema(of.input_schema()),
        "output_schema": schema((of.output_schema)()),
    });
    if let Role::Step(options) = &of.role {
        let retry = options.retry.as_ref().map(|retry| {
            json!({
                "max_attempts": retry.max_attempts,
                "delay_ms": retry.delay_ms,
                "backoff": retry.backoff,
                "max_delay_ms": retry.max_delay_ms,
                "jitter": retry.jitter,
            })
        });
        entry["retry"] = json!(retry);
        entry["timeout_ms"] = json!(options.timeout_ms);
        entry["deadline_ms"] = json!(options.deadline_ms);
    }
    entry
}
