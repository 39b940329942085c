//! What names stand for: workflows, steps, programs.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use cerebelum_history::{Digest, Failure, StepOptions, Target, kind};
use cerebelum_sandbox::{Manifest, WorkflowInfo};
use cerebelum_store::{Component, Store, StoreError, TenantId};
use jsonschema::Validator;

use crate::api::Refused;
use crate::committer::Gather;
use crate::liveness::Liveness;
use crate::outside::{Program, Programs};
use crate::schema;

/// Looks names up and keeps programs at hand.
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    programs: Arc<dyn Programs>,
    /// Asks how many uploads there were; those who ask meanwhile share the next answer.
    uploads: Gather<TenantId, Result<i64, StoreError>>,
    names: Mutex<HashMap<TenantId, Arc<Names>>>,
}

/// What the names of a tenant stand for.
struct Names {
    /// After how many uploads.
    uploads: i64,
    /// Current components by name.
    current: BTreeMap<String, Named>,
}

/// The current component of a name.
struct Named {
    digest: Digest,
    manifest: Result<Manifest, String>,
    /// What checks the input of each workflow, none without a schema; compiled when it is first asked for.
    inputs: HashMap<String, OnceLock<Option<Arc<Validator>>>>,
}

impl Named {
    fn new(component: &Component) -> Self {
        let manifest = manifest_of(component);
        let workflows = manifest.iter().flat_map(|manifest| &manifest.workflows);
        let inputs = workflows.map(|workflow| (workflow.name.clone(), OnceLock::new()));
        Self { digest: component.digest.clone(), inputs: inputs.collect(), manifest }
    }

    fn manifest(&self) -> Result<&Manifest, String> {
        self.manifest.as_ref().map_err(Clone::clone)
    }

    fn find(&self, component: &str, workflow: &str) -> Result<Option<Found>, Refused> {
        let manifest = self.manifest().map_err(Refused::Unavailable)?;
        let info = manifest.workflows.iter().find(|info| info.name == workflow);
        let compile = |info: &WorkflowInfo| schema::validator(&info.input_schema.as_ref()?.to_string()).map(Arc::new);
        Ok(info.map(|info| Found {
            workflow: format!("{component}/{workflow}"),
            digest: self.digest.clone(),
            input: self.inputs[workflow].get_or_init(|| compile(info)).clone(),
        }))
    }
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
    pub(crate) fn new(liveness: &Arc<Liveness>, store: Arc<dyn Store>, programs: Arc<dyn Programs>) -> Self {
        let asked = store.clone();
        let uploads = Gather::new(
            liveness,
            |_| 0,
            move |tenants: Vec<TenantId>| {
                let store = asked.clone();
                async move {
                    let mut told: HashMap<TenantId, Result<i64, StoreError>> = HashMap::new();
                    for tenant in &tenants {
                        if !told.contains_key(tenant) {
                            told.insert(*tenant, store.uploads(*tenant).await);
                        }
                    }
                    tenants.iter().map(|tenant| told[tenant].clone()).collect()
                }
            },
        );
        Self { store, programs, uploads, names: Mutex::default() }
    }

    /// What names stand for now: what was read before counts as long as nobody uploaded anything.
    async fn names(&self, tenant: TenantId) -> Result<Arc<Names>, StoreError> {
        let stopping = || StoreError::Unavailable("the engine is stopping".to_owned());
        let uploads = self.uploads.hand_in(tenant).await.ok_or_else(stopping)??;
        let known = self.known().get(&tenant).filter(|names| names.uploads == uploads).cloned();
        if let Some(names) = known {
            return Ok(names);
        }
        // Read after the count: what is uploaded between the two is read now, and once more next time.
        let components = self.store.components(tenant).await?;
        let current = components.iter().filter(|component| component.current);
        let current = current.map(|component| (component.name.clone(), Named::new(component)));
        let names = Arc::new(Names { uploads, current: current.collect() });
        self.known().insert(tenant, names.clone());
        Ok(names)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Names>>> {
        self.names.lock().expect("nobody panics with the names")
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
        let names = self.names(tenant).await.map_err(|e| NoProgram::Trouble(e.to_string()))?;
        let Some(current) = names.current.get(component) else {
            let hint = "upload it, or mind the spelling";
            return Ok(Err(Failure::new(kind::NOT_FOUND, format!("there is no component `{component}`: {hint}"))));
        };
        let target = declared(current.manifest().map_err(NoProgram::Trouble)?, (local, is_step));
        Ok(target.map(|options| Target { component: Some(current.digest.clone()), options }))
    }

    /// The component and workflow that a start request means, and what checks the workflow's input.
    pub(crate) async fn workflow(&self, tenant: TenantId, name: &str) -> Result<Found, Refused> {
        let names = self.names(tenant).await.map_err(unavailable)?;
        if let Some((component, workflow)) = name.rsplit_once('/') {
            let missing =
                || Refused::NotFound(format!("there is no component `{component}`: see `cerebelum components`"));
            let found = names.current.get(component).ok_or_else(missing)?.find(component, workflow)?;
            let missing = || {
                Refused::NotFound(format!(
                    "component `{component}` has no workflow `{workflow}`: see `cerebelum components`"
                ))
            };
            return found.ok_or_else(missing);
        }
        let mut candidates = Vec::new();
        for (component, named) in &names.current {
            candidates.extend(named.find(component, name)?);
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
    /// What checks its input.
    pub(crate) input: Option<Arc<Validator>>,
}

/// What a component declares.
pub(crate) fn manifest_of(component: &Component) -> Result<Manifest, String> {
    serde_json::from_str(&component.manifest)
        .map_err(|e| format!("the stored manifest of component {} cannot be read: {e}", component.name))
}

/// A store's trouble in words for a client.
pub(crate) fn unavailable(error: StoreError) -> Refused {
    // What the database itself said is for the operator: it may name hosts, tables and values.
    match error {
        StoreError::Unavailable(cause) | StoreError::Rejected(cause) => {
            tracing::debug!(cause, "the database does not answer a client");
            Refused::Unavailable("the database does not answer: try again in a moment".to_owned())
        }
        StoreError::Unknown(cause) => {
            tracing::debug!(cause, "a client is not told what became of a request");
            let told = "the database did not say whether it committed: see what became of it before you try again";
            Refused::Unavailable(told.to_owned())
        }
        StoreError::Corrupt(cause) => {
            Refused::Unavailable(format!("{cause}: it has to be repaired, or restored from a backup"))
        }
        StoreError::Invalid(cause) => Refused::Invalid(cause),
        StoreError::Unusable(cause) => Refused::Unavailable(cause),
    }
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
