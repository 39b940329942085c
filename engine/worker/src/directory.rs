//! What names stand for: workflows, steps, programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cerebelum_history::{Digest, Failure, StepOptions, Target, kind};
use cerebelum_sandbox::Manifest;
use cerebelum_store::{Component, Store, StoreError, TenantId};

use crate::api::Refused;
use crate::outside::{Program, Programs};

/// Looks names up and keeps programs at hand.
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    programs: Arc<dyn Programs>,
}

/// Why a program cannot be had.
#[derive(Debug)]
pub(crate) enum NoProgram {
    /// The component is gone from the store: whoever needs it is parked.
    Missing,
    /// The engine's own trouble: try again.
    Trouble(String),
}

impl Directory {
    pub(crate) fn new(store: Arc<dyn Store>, programs: Arc<dyn Programs>) -> Self {
        Self { store, programs }
    }

    /// The program of a component.
    pub(crate) async fn program(&self, tenant: TenantId, digest: &Digest) -> Result<Arc<dyn Program>, NoProgram> {
        let is_missing = AtomicBool::new(false);
        let bytes = async {
            match self.store.component_bytes(tenant, digest).await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => {
                    is_missing.store(true, Ordering::Relaxed);
                    Err(format!("component {digest} is not in the store"))
                }
                Err(error) => Err(error.to_string()),
            }
        };
        let loaded = self.programs.load(digest, Box::pin(bytes)).await;
        match loaded {
            Ok(program) => Ok(program),
            Err(_) if is_missing.load(Ordering::Relaxed) => Err(NoProgram::Missing),
            Err(error) => Err(NoProgram::Trouble(error.to_string())),
        }
    }

    /// What a step's or workflow's name stands for, seen from a component.
    pub(crate) async fn target(
        &self,
        tenant: TenantId,
        from: &Digest,
        (name, is_step): (&str, bool),
    ) -> Result<Result<Target, Failure>, NoProgram> {
        let Some((component, local)) = name.rsplit_once('/') else {
            let program = self.program(tenant, from).await?;
            return Ok(declared(program.manifest(), (name, is_step)).map(|options| Target { component: None, options }));
        };
        let current = self.store.current(tenant, component).await.map_err(|e| NoProgram::Trouble(e.to_string()))?;
        let Some(current) = current else {
            let hint = "upload it, or mind the spelling";
            return Ok(Err(Failure::new(kind::NOT_FOUND, format!("there is no component `{component}`: {hint}"))));
        };
        let manifest = manifest_of(&current).map_err(NoProgram::Trouble)?;
        let target = declared(&manifest, (local, is_step));
        Ok(target.map(|options| Target { component: Some(current.digest), options }))
    }

    /// The component and workflow that a start request means, and the workflow's input schema.
    pub(crate) async fn workflow(&self, tenant: TenantId, name: &str) -> Result<Found, Refused> {
        if let Some((component, workflow)) = name.rsplit_once('/') {
            let current = self.store.current(tenant, component).await.map_err(unavailable)?;
            let missing =
                || Refused::NotFound(format!("there is no component `{component}`: see `cerebelum components`"));
            let found = find(current.ok_or_else(missing)?, workflow)?;
            let missing = || {
                Refused::NotFound(format!(
                    "component `{component}` has no workflow `{workflow}`: see `cerebelum components`"
                ))
            };
            return found.ok_or_else(missing);
        }
        let mut candidates = Vec::new();
        for component in self.store.components(tenant).await.map_err(unavailable)? {
            if component.current {
                candidates.extend(find(component, name)?);
            }
        }
        if candidates.len() > 1 {
            let names: Vec<&str> = candidates.iter().map(|found| found.workflow.as_str()).collect();
            return Err(Refused::Invalid(format!("`{name}` is ambiguous: say one of {}", names.join(", "))));
        }
        let missing = || Refused::NotFound(format!("there is no workflow `{name}`: see `cerebelum components`"));
        candidates.pop().ok_or_else(missing)
    }
}

/// A workflow that was found.
pub(crate) struct Found {
    /// `component/workflow`.
    pub(crate) workflow: String,
    /// The component.
    pub(crate) digest: Digest,
    /// JSON Schema of its input.
    pub(crate) input_schema: Option<String>,
}

fn find(component: Component, workflow: &str) -> Result<Option<Found>, Refused> {
    let manifest = manifest_of(&component).map_err(Refused::Unavailable)?;
    let found = manifest.workflows.into_iter().find(|info| info.name == workflow);
    Ok(found.map(|info| Found {
        workflow: format!("{}/{workflow}", component.name),
        digest: component.digest,
        input_schema: info.input_schema.map(|schema| schema.to_string()),
    }))
}

/// What a component declares.
pub(crate) fn manifest_of(component: &Component) -> Result<Manifest, String> {
    serde_json::from_str(&component.manifest)
        .map_err(|e| format!("the stored manifest of component {} cannot be read: {e}", component.name))
}

/// A store's trouble in words for a client.
pub(crate) fn unavailable(error: StoreError) -> Refused {
    let hint = match &error {
        StoreError::Unavailable(_) => "try again in a moment",
        StoreError::Unknown(_) => "see what became of it before you try again",
        StoreError::Corrupt(_) => "it has to be repaired, or restored from a backup",
        StoreError::Invalid(_) => return Refused::Invalid(error.to_string()),
        StoreError::Unusable(_) => return Refused::Unavailable(error.to_string()),
    };
    Refused::Unavailable(format!("{error}: {hint}"))
}

fn declared(manifest: &Manifest, (name, is_step): (&str, bool)) -> Result<StepOptions, Failure> {
    let (what, names): (&str, Vec<&str>) = if is_step {
        if let Some(step) = manifest.steps.iter().find(|step| step.name == name) {
            return Ok(step.options.clone());
        }
        ("step", manifest.steps.iter().map(|step| step.name.as_str()).collect())
    } else {
        if manifest.workflows.iter().any(|workflow| workflow.name == name) {
            return Ok(StepOptions::default());
        }
        ("workflow", manifest.workflows.iter().map(|workflow| workflow.name.as_str()).collect())
    };
    Err(Failure::new(
        kind::NOT_FOUND,
        format!("there is no {what} `{name}` in the component; it has: {}", names.join(", ")),
    ))
}
