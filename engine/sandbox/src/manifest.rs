//! A component's description of itself: its workflows and steps, and the hosts and secrets that it needs.

use std::collections::HashSet;

use cerebelum_history::{Json, NAME_BYTES_MAX, StepOptions, WAIT_MS_MAX};
use serde::{Deserialize, Serialize};

use crate::bindings::guest;
use crate::convert;
use crate::host_calls::cut;
use crate::limits::{ENTRIES_MAX, MANIFEST_BYTES_MAX, TEXT_BYTES_MAX};
use crate::schema::Schema;

/// A component's description of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The SDK that built it, for people.
    pub sdk: String,
    /// Its workflows.
    pub workflows: Vec<WorkflowInfo>,
    /// Its steps.
    pub steps: Vec<StepInfo>,
    /// Hosts that its steps want to fetch from.
    pub hosts: Vec<String>,
    /// Names of the secrets that its requests mention.
    pub secrets: Vec<String>,
}

/// One workflow of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowInfo {
    /// Its name.
    pub name: String,
    /// JSON Schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Json>,
    /// JSON Schema of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Json>,
    /// A short description, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How long its clean-up may take after a cancel; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_grace_ms: Option<u64>,
}

/// The keyword of a workflow's input schema that declares how long its clean-up may take after a cancel, in
/// milliseconds. The contract's record of a workflow cannot get another field without breaking every component built
/// before.
const CANCEL_GRACE_KEYWORD: &str = "x-cerebelum-cancel-grace-ms";

/// One step of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Its name.
    pub name: String,
    /// JSON Schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Json>,
    /// JSON Schema of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Json>,
    /// A short description, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Its declared timeout, deadline and retry policy.
    pub options: StepOptions,
}

/// Checks the result of a component's `describe`. The error is one line for the uploader.
pub(crate) fn read(told: guest::Manifest) -> Result<Manifest, String> {
    if told.workflows.is_empty() && told.steps.is_empty() {
        return Err("the component describes no workflow and no step".to_owned());
    }
    if told.workflows.len() + told.steps.len() > ENTRIES_MAX {
        return Err(format!("the component describes more than {ENTRIES_MAX} workflows and steps"));
    }
    unique(told.workflows.iter().map(|workflow| workflow.name.as_str()), "workflow")?;
    unique(told.steps.iter().map(|step| step.name.as_str()), "step")?;
    let manifest = Manifest {
        sdk: cut(&told.sdk, NAME_BYTES_MAX).to_owned(),
        workflows: told.workflows.into_iter().map(workflow).collect::<Result<_, _>>()?,
        steps: told.steps.into_iter().map(step).collect::<Result<_, _>>()?,
        hosts: named(told.hosts, "a host")?,
        secrets: named(told.secrets, "a secret")?,
    };
    let bytes = Json::of(&manifest).as_str().len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(format!(
            "the component describes itself in {bytes} bytes where at most {MANIFEST_BYTES_MAX} are accepted"
        ));
    }
    Ok(manifest)
}

fn workflow(told: guest::WorkflowInfo) -> Result<WorkflowInfo, String> {
    let cancel_grace_ms = cancel_grace(told.input_schema.as_deref())
        .ok_or_else(|| format!("workflow `{}`: its cancel_grace is not 0 to {WAIT_MS_MAX} milliseconds", told.name))?;
    Ok(WorkflowInfo {
        cancel_grace_ms,
        input_schema: schema(told.input_schema, &format!("workflow `{}`: its input schema", told.name))?,
        output_schema: schema(told.output_schema, &format!("workflow `{}`: its output schema", told.name))?,
        summary: told.summary.map(|summary| cut(&summary, TEXT_BYTES_MAX).to_owned()),
        name: told.name,
    })
}

/// The grace period that an input schema declares, if any. The outer option is none when the value is invalid.
fn cancel_grace(schema: Option<&str>) -> Option<Option<u64>> {
    let schema: Option<serde_json::Value> = schema.and_then(|text| serde_json::from_str(text).ok());
    match schema.as_ref().and_then(|schema| schema.get(CANCEL_GRACE_KEYWORD)) {
        None => Some(None),
        Some(grace) => grace.as_u64().filter(|grace| *grace <= WAIT_MS_MAX).map(Some),
    }
}

fn step(told: guest::StepInfo) -> Result<StepInfo, String> {
    let options = convert::step_options(told.options);
    Ok(StepInfo {
        input_schema: schema(told.input_schema, &format!("step `{}`: its input schema", told.name))?,
        output_schema: schema(told.output_schema, &format!("step `{}`: its output schema", told.name))?,
        summary: told.summary.map(|summary| cut(&summary, TEXT_BYTES_MAX).to_owned()),
        options: options.map_err(|failure| format!("step `{}`: {}", told.name, failure.message))?,
        name: told.name,
    })
}

fn schema(text: Option<String>, what: &str) -> Result<Option<Json>, String> {
    let Some(text) = text else { return Ok(None) };
    let json = Json::parse(text).map_err(|error| format!("{what} is {error}"))?;
    Schema::parse(json.as_str()).map_err(|why| format!("{what} is not accepted: {why}"))?;
    Ok(Some(json))
}

fn named(names: Vec<String>, what: &str) -> Result<Vec<String>, String> {
    names.into_iter().map(|name| convert::name(name, what).map_err(|failure| failure.message)).collect()
}

/// Checks the names of workflows or steps. They occur in `component/workflow`, in URLs and on command lines.
fn unique<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        let shown = cut(name, 60).escape_debug();
        let unusable = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(unusable) {
            return Err(format!("`{shown}` cannot name a {what}: no space, no `/`, 1 to {NAME_BYTES_MAX} bytes"));
        }
        if !seen.insert(name) {
            return Err(format!("the component describes two {what}s named `{shown}`"));
        }
    }
    Ok(())
}
