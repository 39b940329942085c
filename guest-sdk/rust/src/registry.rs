//! The workflows and steps of this component. Every attribute registers its function, so there is no list to keep.

use futures::future::{FutureExt, LocalBoxFuture};

use crate::context::Context;
use crate::error::Result;
#[cfg(target_arch = "wasm32")]
use crate::error::{Error, kind};
use crate::json::Data;
use crate::step::{Step, StepOptions};
use crate::workflow::Workflow;

/// A workflow or a step of this program.
pub struct Registration {
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    pub(crate) summary: Option<&'static str>,
    input_schema: fn() -> String,
    pub(crate) output_schema: fn() -> String,
    run: Body,
}

/// Whether a registration is a workflow or a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Role {
    Workflow { cancel_grace_ms: Option<u64> },
    Step(StepOptions),
}

/// A function from JSON text to JSON text.
pub(crate) type Body = fn(Context, String) -> LocalBoxFuture<'static, Result<String>>;

/// The keyword of a workflow's input schema that limits its clean-up after a cancel.
const CANCEL_GRACE_KEYWORD: &str = "x-cerebelum-cancel-grace-ms";

inventory::collect!(Registration);

/// The permissions that this component asks for.
pub struct Grants {
    /// Hosts that its steps want to fetch from.
    pub hosts: &'static [&'static str],
    /// Names of the secrets that its requests mention.
    pub secrets: &'static [&'static str],
}

inventory::collect!(Grants);

impl Registration {
    /// The function's body, from JSON text to JSON text.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn body(&self) -> Body {
        self.run
    }

    /// The registration of a step.
    #[must_use]
    pub const fn step<S: Step>() -> Self {
        Self {
            role: Role::Step(S::OPTIONS),
            name: S::NAME,
            summary: S::SUMMARY,
            input_schema: S::Input::input_schema,
            output_schema: S::Output::output_schema,
            run: |ctx, input| async move { S::run(ctx, Data::from_json(&input)?).await?.to_json() }.boxed_local(),
        }
    }

    /// The registration of a workflow.
    #[must_use]
    pub const fn workflow<W: Workflow>() -> Self {
        Self {
            role: Role::Workflow { cancel_grace_ms: W::CANCEL_GRACE_MS },
            name: W::NAME,
            summary: W::SUMMARY,
            input_schema: W::Input::input_schema,
            output_schema: W::Output::output_schema,
            run: |ctx, input| async move { W::run(ctx, Data::from_json(&input)?).await?.to_json() }.boxed_local(),
        }
    }

    /// The JSON Schema of the input, with the keywords that the engine reads from it.
    pub(crate) fn input_schema(&self) -> String {
        let schema = (self.input_schema)();
        let Role::Workflow { cancel_grace_ms: Some(grace) } = self.role else { return schema };
        let mut members = match serde_json::from_str(&schema) {
            Ok(serde_json::Value::Object(members)) => members,
            // `true`, which accepts everything.
            _ => serde_json::Map::new(),
        };
        members.insert(CANCEL_GRACE_KEYWORD.to_owned(), grace.into());
        serde_json::Value::Object(members).to_string()
    }

    pub(crate) const fn is_workflow(&self) -> bool {
        matches!(self.role, Role::Workflow { .. })
    }
}

/// Every workflow and step of this program, by name.
pub(crate) fn registrations() -> Vec<&'static Registration> {
    // The linker's order is not guaranteed; a manifest should not depend on it.
    let mut all: Vec<_> = inventory::iter::<Registration>.into_iter().collect();
    all.sort_by_key(|r| (!r.is_workflow(), r.name));
    all
}

/// Runs a workflow or a step of this program to its end.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn run(is_workflow: bool, name: &str, ctx: Context, input: String) -> Result<String> {
    let found = inventory::iter::<Registration>.into_iter().find(|r| r.is_workflow() == is_workflow && r.name == name);
    let Some(found) = found else {
        let noun = if is_workflow { "workflow" } else { "step" };
        return Err(Error::new(kind::NOT_FOUND, format!("this component has no {noun} `{name}`")).permanent());
    };
    (found.run)(ctx, input).await
}
