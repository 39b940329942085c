//! Components as clients handle them: upload, list, accept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cerebelum_history::{Digest, Json};
use cerebelum_sandbox::{InspectError, Inspected};
use cerebelum_store::{Component, Upload, Version, VersionChange, VersionState};

use crate::api::{ApiError, ComponentInfo};
use crate::convert;
use crate::directory::manifest_of;
use crate::grants::{Granted, decide};
use crate::metrics::result_of;
use crate::removal::{no_component, versions_of};
use crate::tenant_engine::TenantEngine;
use crate::tenant_turns::TenantTurn;

/// How often the state of a version is decided again after another upload or removal.
const ATTEMPTS_MAX: usize = 8;
/// How many digits name the version that is accepted. Of fewer digits, another component could be made that has the same.
const ACCEPTED_DIGITS_MIN: usize = 12;

impl TenantEngine {
    /// Waits for this tenant's turn to upload a component. A server waits before it receives the component's bytes.
    pub async fn upload_turn(&self) -> TenantTurn {
        self.node.turns.uploads.next(self.tenant).await
    }

    /// Checks a component and makes it the current one of its name (by default the file's name). If it asks for more than
    /// its name was granted, it is proposed instead.
    ///
    /// # Errors
    /// When this engine cannot run the component, in one line that names the reason.
    pub async fn upload(
        &self,
        name: Option<String>,
        file_name: &str,
        bytes: Vec<u8>,
    ) -> Result<ComponentInfo, ApiError> {
        let uploaded = self.try_upload(name, file_name, bytes).await;
        self.node.metrics.outside.uploads.at(result_of(&uploaded)).inc();
        uploaded
    }

    async fn try_upload(
        &self,
        name: Option<String>,
        file_name: &str,
        bytes: Vec<u8>,
    ) -> Result<ComponentInfo, ApiError> {
        let name = checked_name(name, file_name)?;
        let bytes = Bytes::from(bytes);
        let inspected = self.node.programs.inspect(bytes.clone()).await.map_err(|error| match error {
            InspectError::Refused(cause) => ApiError::Conflict(cause),
            InspectError::HostError(cause) => ApiError::Unavailable(cause),
        })?;
        let bytes = Arc::new(Vec::from(bytes));
        let usage = self.node.usages.of(self.tenant);
        let _one = usage.storing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let uploads = self.node.store.uploads(self.tenant).await?;
            let others = self.node.store.components(self.tenant).await?;
            if !others.iter().any(|other| other.name == name && other.digest == inspected.digest) {
                usage.admit_component(&others, bytes.len() as u64)?;
            }
            if self.keep((&name, &inspected), &bytes, (&others, uploads)).await? {
                return self.kept(&name, &inspected.digest).await;
            }
        }
        Err(too_many())
    }

    /// Stores an upload beside these other versions. Returns `false` if there was another upload or removal meanwhile.
    async fn keep(
        &self,
        (name, inspected): (&str, &Inspected),
        bytes: &Arc<Vec<u8>>,
        (others, uploads): (&[Component], i64),
    ) -> Result<bool, ApiError> {
        let Inspected { digest, manifest, .. } = inspected;
        let (state, granted) = decide(others, (name, digest), manifest, self.role)?;
        let told = match state {
            VersionState::Current => {
                let before = others.iter().find(|other| other.current && other.name == name).map(manifest_of);
                format!("{digest}{}", convert::changed_capabilities(before.and_then(Result::ok).as_ref(), manifest))
            }
            VersionState::Proposed => format!("{digest} proposed{}", new_ones(&granted.missing(manifest))),
        };
        let upload = Upload {
            tenant: self.tenant,
            name: name.to_owned(),
            digest: digest.clone(),
            manifest: Json::of(manifest).to_string(),
            bytes: bytes.clone(),
            change: VersionChange { state, granted: granted.text()?, uploads },
        };
        Ok(self.node.store.keep_component(upload, self.act("Upload", name, told)).await?)
    }

    /// A version that was just stored.
    async fn kept(&self, name: &str, digest: &Digest) -> Result<ComponentInfo, ApiError> {
        let components = self.components().await?;
        let found = components.into_iter().find(|component| component.name == name && component.digest == *digest);
        found.ok_or_else(|| ApiError::Unavailable("the component was removed meanwhile: upload it again".to_owned()))
    }

    /// All components, by name, the current one first, without those whose declarations cannot be read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn components(&self) -> Result<Vec<ComponentInfo>, ApiError> {
        let all = self.node.store.components(self.tenant).await?;
        let mut granted = BTreeMap::new();
        let mut views = Vec::with_capacity(all.len());
        for component in &all {
            if !granted.contains_key(&component.name) {
                let of_name = Granted::to(&component.name, &all).unwrap_or_default().unwrap_or_default();
                granted.insert(component.name.clone(), of_name);
            }
            let manifest = match manifest_of(component) {
                Ok(manifest) => manifest,
                Err(why) => {
                    tracing::warn!(digest = %component.digest, why, "a version of a component is not listed");
                    continue;
                }
            };
            views.push(convert::component(component, &manifest, &granted[&component.name]));
        }
        Ok(views)
    }

    /// The versions of one component, as [`Self::components`] has them.
    ///
    /// # Errors
    /// When there is no component of this name, or the database does not answer.
    pub async fn component(&self, name: &str) -> Result<Vec<ComponentInfo>, ApiError> {
        let mut versions = self.components().await?;
        versions.retain(|version| version.name == name);
        if versions.is_empty() {
            return Err(no_component(name));
        }
        Ok(versions)
    }

    /// Grants a version all that it asks for, and makes it the current one of its name. The digest may be cut after 12
    /// digits.
    ///
    /// # Errors
    /// When there is no such version, the digits are too few, or the database does not answer.
    pub async fn accept_component(&self, name: &str, digits: &str) -> Result<ComponentInfo, ApiError> {
        if digits.len() < ACCEPTED_DIGITS_MIN {
            let why = format!("say which version, by at least {ACCEPTED_DIGITS_MIN} digits of its digest");
            return Err(ApiError::Invalid(why));
        }
        for _ in 0..ATTEMPTS_MAX {
            let uploads = self.node.store.uploads(self.tenant).await?;
            let all = self.node.store.components(self.tenant).await?;
            let found = versions_of(&all, name, Some(digits))?;
            let Some(&component) = found.first() else { break };
            let manifest = manifest_of(component).map_err(ApiError::Unavailable)?;
            let mut granted = Granted::to(name, &all)?.unwrap_or_default();
            let missing = granted.missing(&manifest);
            if component.current && missing.is_empty() {
                return Ok(convert::component(component, &manifest, &granted));
            }
            granted.add(&manifest);
            let Component { digest, .. } = component.clone();
            let act = self.act("AcceptComponent", name, format!("{digest}{}", new_ones(&missing)));
            let version = Version { tenant: self.tenant, name: name.to_owned(), digest: digest.clone() };
            let change = VersionChange { state: VersionState::Current, granted: granted.text()?, uploads };
            let _turn = self.node.turns.writes.next(self.tenant).await;
            if self.node.store.change_version(version, change, act).await? {
                return self.kept(name, &digest).await;
            }
        }
        Err(too_many())
    }
}

/// The name of an upload: the one that was given, or that of the file.
fn checked_name(name: Option<String>, file_name: &str) -> Result<String, ApiError> {
    let name = name.unwrap_or_else(|| {
        let stem = std::path::Path::new(file_name).file_stem().and_then(|stem| stem.to_str());
        stem.unwrap_or("component").replace('_', "-")
    });
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // A part of a path that is nothing but dots leads elsewhere.
    let is_path = name.chars().all(|c| c == '.');
    if is_path || name.len() > 64 || !name.chars().all(allowed) {
        return Err(ApiError::Invalid(format!(
            "`{}` is not a name for a component: use 1 to 64 of A-Z a-z 0-9 . _ -, not only dots",
            name.escape_debug()
        )));
    }
    Ok(name)
}

/// For the audit: ` +http:HOST +secret:NAME`.
fn new_ones(capabilities: &[String]) -> String {
    capabilities.iter().map(|capability| format!(" +{capability}")).collect()
}

fn too_many() -> ApiError {
    ApiError::Unavailable("components of the tenant are uploaded and removed all the time: try again".to_owned())
}
