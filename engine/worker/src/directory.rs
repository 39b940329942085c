//! Resolves names of workflows and steps, and loads programs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cerebelum_history::{Digest, Failure, Target, kind};
use cerebelum_sandbox::{InspectError, LoadError, Manifest, WorkflowInfo};
use cerebelum_store::{Component, Store, StoreError, TenantId};

use crate::api::ApiError;
use crate::batcher::Batcher;
use crate::env::{ComponentLoader, Program};
use crate::grants::{Granted, Grants};
use crate::liveness::Liveness;
use crate::schema::Input;

/// Resolves names and caches the declarations of components.
pub(crate) struct Directory {
    store: Arc<dyn Store>,
    programs: Arc<dyn ComponentLoader>,
    /// Reads the number of uploads. Concurrent callers share the next answer.
    uploads: Batcher<TenantId, Result<i64, StoreError>>,
    names: Mutex<HashMap<TenantId, Arc<Names>>>,
}

/// The names of a tenant and their components.
struct Names {
    /// The number of uploads when the names were read.
    uploads: i64,
    /// Current components by name.
    current: BTreeMap<String, Arc<Named>>,
    /// Names of which all versions wait to be accepted.
    proposed: BTreeSet<String>,
    /// What each version was granted; none for all that it asks for, because a name of it has no record.
    granted: HashMap<Digest, Option<Granted>>,
}

impl Names {
    fn new(uploads: i64, current: BTreeMap<String, Arc<Named>>, components: &[Component]) -> Self {
        let mut granted: HashMap<Digest, Option<Granted>> = HashMap::new();
        for component in components.iter().filter(|component| !component.proposed) {
            let of_name = component.granted.as_deref().map(Granted::parse);
            let of_digest = granted.entry(component.digest.clone()).or_insert_with(|| Some(Granted::default()));
            match (of_digest.as_mut(), of_name) {
                (Some(of_digest), Some(of_name)) => of_digest.join(&of_name),
                (_, None) => *of_digest = None,
                (None, _) => {}
            }
        }
        let proposed = components.iter().filter(|component| component.proposed).map(|component| component.name.clone());
        let proposed = proposed.filter(|name| !current.contains_key(name)).collect();
        Self { uploads, current, proposed, granted }
    }

    fn missing(&self, component: &str) -> String {
        match self.proposed.contains(component) {
            true => format!("component `{component}` waits to be accepted: see `cerebelum components`"),
            false => format!("there is no component `{component}`: see `cerebelum components`"),
        }
    }

    fn no_workflow(&self, workflow: &str) -> String {
        let proposed: Vec<String> = self.proposed.iter().take(3).map(|name| format!("`{name}`")).collect();
        match proposed.is_empty() {
            true => format!("there is no workflow `{workflow}`: see `cerebelum components`"),
            false => format!(
                "there is no workflow `{workflow}` in an accepted component: an admin accepts {} with `cerebelum \
                 components accept`",
                proposed.join(", ")
            ),
        }
    }
}

/// The current component of a name.
struct Named {
    digest: Digest,
    /// The manifest as it is stored.
    stored: String,
    manifest: Result<Manifest, String>,
    /// Checks the input of each workflow that has a schema.
    inputs: HashMap<String, Arc<Input>>,
}

impl Named {
    fn new(component: &Component) -> Self {
        let manifest = manifest_of(component);
        let workflows = manifest.iter().flat_map(|manifest| &manifest.workflows);
        let inputs = workflows.filter_map(|workflow| {
            let schema = workflow.input_schema.clone()?;
            Some((workflow.name.clone(), Arc::new(Input::new(schema))))
        });
        let inputs = inputs.collect();
        Self { digest: component.digest.clone(), stored: component.manifest.clone(), inputs, manifest }
    }

    /// Whether this entry still describes this component.
    fn is(&self, component: &Component) -> bool {
        self.digest == component.digest && self.stored == component.manifest
    }

    fn manifest(&self) -> Result<&Manifest, String> {
        self.manifest.as_ref().map_err(Clone::clone)
    }

    fn find(&self, component: &str, workflow: &str) -> Result<Option<ResolvedWorkflow>, ApiError> {
        let manifest = self.manifest().map_err(ApiError::Unavailable)?;
        let info = manifest.workflows.iter().find(|info| info.name == workflow);
        Ok(info.map(|info| ResolvedWorkflow {
            workflow: format!("{component}/{workflow}"),
            digest: self.digest.clone(),
            input: self.inputs.get(&info.name).cloned(),
            cancel_grace_ms: info.cancel_grace_ms,
        }))
    }
}

/// Why a program is not available.
#[derive(Debug)]
pub(crate) enum NoProgram {
    /// The component is not in the store. The execution that needs it is parked.
    Missing,
    /// The stored bytes differ from the uploaded ones.
    Damaged(String),
    /// This engine does not accept the component, although an earlier engine did.
    Refused(String),
    /// The engine's own fault: try again.
    EngineError(String),
}

impl Directory {
    pub(crate) fn new(liveness: &Arc<Liveness>, store: Arc<dyn Store>, programs: Arc<dyn ComponentLoader>) -> Self {
        let asked = store.clone();
        let uploads = Batcher::new(liveness, move |tenants: Vec<TenantId>| {
            let store = asked.clone();
            async move {
                let mut counts: HashMap<TenantId, Result<i64, StoreError>> = HashMap::new();
                for tenant in &tenants {
                    if !counts.contains_key(tenant) {
                        counts.insert(*tenant, store.uploads(*tenant).await);
                    }
                }
                tenants.iter().map(|tenant| counts[tenant].clone()).collect()
            }
        });
        Self { store, programs, uploads, names: Mutex::default() }
    }

    /// The current names. They are read again only after an upload.
    async fn names(&self, tenant: TenantId) -> Result<Arc<Names>, StoreError> {
        let stopping = || StoreError::Unavailable("the engine is stopping".to_owned());
        let uploads = self.uploads.submit(tenant).await.ok_or_else(stopping)??;
        let known = self.known().get(&tenant).cloned();
        if let Some(names) = known.as_ref().filter(|names| names.uploads == uploads) {
            return Ok(names.clone());
        }
        // Read after the number of uploads: a component that is uploaded between the two is read now and once more next
        // time.
        let components = self.store.components(tenant).await?;
        let current = components.iter().filter(|component| component.current);
        let current = current.map(|component| {
            // The upload of another component does not cause the schemas of this one to be compiled again.
            let before = known.as_ref().and_then(|names| names.current.get(&component.name));
            let before = before.filter(|named| named.is(component)).cloned();
            (component.name.clone(), before.unwrap_or_else(|| Arc::new(Named::new(component))))
        });
        let names = Arc::new(Names::new(uploads, current.collect(), &components));
        self.known().insert(tenant, names.clone());
        Ok(names)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Names>>> {
        self.names.lock().expect("nobody panics with the names")
    }

    /// Loads the program of a component.
    pub(crate) async fn program(&self, tenant: TenantId, digest: &Digest) -> Result<Arc<dyn Program>, NoProgram> {
        let found = Mutex::new(None);
        let bytes = async {
            let why = match self.store.component_bytes(tenant, digest).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => NoProgram::Missing,
                Err(StoreError::Corrupt(cause)) => NoProgram::Damaged(cause),
                Err(error) => NoProgram::EngineError(error.to_string()),
            };
            *found.lock().expect("nobody panics with a reason") = Some(why);
            Err("its bytes cannot be had".to_owned())
        };
        let loaded = self.programs.load(digest, Box::pin(bytes)).await;
        let found = found.into_inner().expect("nobody panics with a reason");
        loaded.map_err(|error| match (error, found) {
            (_, Some(why)) => why,
            (LoadError::Inspect(InspectError::Refused(cause)), None) => NoProgram::Refused(cause),
            (error, None) => NoProgram::EngineError(error.to_string()),
        })
    }

    /// What requests of a component's steps may reach and contain: what it asks for and was granted.
    pub(crate) async fn grants(&self, tenant: TenantId, digest: &Digest) -> Result<Grants, NoProgram> {
        let program = self.program(tenant, digest).await?;
        let manifest = program.manifest();
        // Grants only grow while an execution needs the component: grants that were enough need not be read again.
        let known = self.known().get(&tenant).cloned();
        let granted = known.as_ref().and_then(|names| names.granted.get(digest)?.as_ref());
        if let Some(grants) = granted.map(|granted| granted.of(tenant, manifest)).filter(|grants| !grants.are_partial) {
            return Ok(grants);
        }
        let names = self.names(tenant).await.map_err(|e| NoProgram::EngineError(e.to_string()))?;
        Ok(match names.granted.get(digest) {
            Some(Some(granted)) => granted.of(tenant, manifest),
            // A version without a name had one when the execution began.
            Some(None) | None => Grants::all(tenant, manifest),
        })
    }

    /// Resolves the name of a step or workflow, as seen from a component.
    pub(crate) async fn target(
        &self,
        tenant: TenantId,
        from: &Digest,
        (name, is_step): (&str, bool),
    ) -> Result<Result<Target, Failure>, NoProgram> {
        let Some((component, local)) = name.rsplit_once('/') else {
            let program = self.program(tenant, from).await?;
            return Ok(declared(program.manifest(), (name, is_step)));
        };
        let names = self.names(tenant).await.map_err(|e| NoProgram::EngineError(e.to_string()))?;
        let Some(current) = names.current.get(component) else {
            let why = match names.proposed.contains(component) {
                true => names.missing(component),
                false => format!("there is no component `{component}`: upload it, or mind the spelling"),
            };
            return Ok(Err(Failure::new(kind::NOT_FOUND, why)));
        };
        let target = declared(current.manifest().map_err(NoProgram::EngineError)?, (local, is_step));
        Ok(target.map(|target| Target { component: Some(current.digest.clone()), ..target }))
    }

    /// What a version of a component says about a workflow of it. There is none if no name has the version any more.
    pub(crate) async fn described(
        &self,
        tenant: TenantId,
        (digest, workflow): (&Digest, &str),
    ) -> Result<Option<WorkflowInfo>, ApiError> {
        let find = |manifest: &Manifest| manifest.workflows.iter().find(|info| info.name == workflow).cloned();
        let names = self.names(tenant).await.map_err(unavailable)?;
        if let Some(named) = names.current.values().find(|named| named.digest == *digest) {
            return Ok(named.manifest().ok().and_then(find));
        }
        let components = self.store.components(tenant).await.map_err(unavailable)?;
        let component = components.iter().find(|component| component.digest == *digest);
        Ok(component.and_then(|component| find(&manifest_of(component).ok()?)))
    }

    /// Resolves the workflow of a start request.
    pub(crate) async fn workflow(&self, tenant: TenantId, name: &str) -> Result<ResolvedWorkflow, ApiError> {
        let names = self.names(tenant).await.map_err(unavailable)?;
        if let Some((component, workflow)) = name.rsplit_once('/') {
            let missing = || ApiError::NotFound(names.missing(component));
            let found = names.current.get(component).ok_or_else(missing)?.find(component, workflow)?;
            let missing = || {
                ApiError::NotFound(format!(
                    "component `{component}` has no workflow `{workflow}`: see `cerebelum components`"
                ))
            };
            return found.ok_or_else(missing);
        }
        let (mut candidates, mut unreadable) = (Vec::new(), None);
        for (component, named) in &names.current {
            match named.find(component, name) {
                Ok(found) => candidates.extend(found),
                // The workflows of the other components can be started all the same.
                Err(error) => unreadable = Some(error),
            }
        }
        if candidates.len() > 1 {
            let names: Vec<&str> = candidates.iter().map(|found| found.workflow.as_str()).collect();
            return Err(ApiError::Invalid(format!("`{name}` is ambiguous: say one of {}", names.join(", "))));
        }
        candidates.pop().ok_or_else(|| unreadable.unwrap_or_else(|| ApiError::NotFound(names.no_workflow(name))))
    }
}

/// A resolved workflow.
pub(crate) struct ResolvedWorkflow {
    /// `component/workflow`.
    pub(crate) workflow: String,
    /// The component.
    pub(crate) digest: Digest,
    /// Checks its input.
    pub(crate) input: Option<Arc<Input>>,
    /// How long its clean-up may take after a cancel.
    pub(crate) cancel_grace_ms: Option<u64>,
}

/// The declarations of a component.
pub(crate) fn manifest_of(component: &Component) -> Result<Manifest, String> {
    serde_json::from_str(&component.manifest)
        .map_err(|e| format!("the stored manifest of component {} cannot be read: {e}", component.name))
}

/// Converts an error of the store into one for a client.
pub(crate) fn unavailable(error: StoreError) -> ApiError {
    // The database's own message is for the operator: it may contain hosts, tables and values.
    match error {
        StoreError::Unavailable(cause) => {
            tracing::debug!(cause, "the database does not answer a client");
            ApiError::Unavailable("the database does not answer: try again in a moment".to_owned())
        }
        StoreError::Rejected(cause) => {
            tracing::debug!(cause, "the database rejects what a client asks for");
            ApiError::Unavailable("the database takes too long for this: try again, or ask for less".to_owned())
        }
        StoreError::Unknown(cause) => {
            tracing::debug!(cause, "a client is not told what became of a request");
            let told = "the database did not say whether it committed: see what became of it before you try again";
            ApiError::Unavailable(told.to_owned())
        }
        StoreError::Corrupt(cause) => {
            ApiError::Unavailable(format!("{cause}: it has to be repaired, or restored from a backup"))
        }
        StoreError::Invalid(cause) => ApiError::Invalid(cause),
        StoreError::NotKept(cause) => ApiError::Conflict(cause),
        StoreError::Unusable(cause) => ApiError::Unavailable(cause),
    }
}

fn declared(manifest: &Manifest, (name, is_step): (&str, bool)) -> Result<Target, Failure> {
    let (what, names): (&str, Vec<&str>) = if is_step {
        if let Some(step) = manifest.steps.iter().find(|step| step.name == name) {
            return Ok(Target { options: step.options.clone(), ..Target::default() });
        }
        ("step", manifest.steps.iter().map(|step| step.name.as_str()).collect())
    } else {
        if let Some(workflow) = manifest.workflows.iter().find(|workflow| workflow.name == name) {
            return Ok(Target { cancel_grace_ms: workflow.cancel_grace_ms, ..Target::default() });
        }
        ("workflow", manifest.workflows.iter().map(|workflow| workflow.name.as_str()).collect())
    };
    Err(Failure::new(
        kind::NOT_FOUND,
        format!("there is no {what} `{name}` in the component; it has: {}", names.join(", ")),
    ))
}
