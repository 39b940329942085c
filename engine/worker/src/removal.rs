//! Removes components: on request, and old versions after a while.
//!
//! A version first loses its name; its bytes follow after a grace period, and then its compiled form. A crash between
//! two of these steps leaves something for the next round, but never removes too much.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Digest, ExecutionId, Timestamp};
use cerebelum_store::{Component, Removable, StoreError, TenantId, Version};

use crate::api::ApiError;
use crate::clock::millis;
use crate::node::Node;
use crate::tenant_engine::TenantEngine;

/// A large program that is not used for one to two of these intervals is dropped, and the memory of its slots is freed.
const UNLOAD_AFTER: Duration = Duration::from_secs(10);
/// How many executions that need the component a refused removal names.
const USERS_SHOWN: usize = 3;
/// How many digits of a digest a message shows.
const DIGEST_DIGITS: usize = 12;
/// How many lease durations a version keeps its bytes after it lost its last name. A node that resolved the name before
/// and has not stored the result by then has lost its lease.
const GRACE_LEASES: u32 = 2;
/// The search for users reads all executions that are open or have failed. After each round this task pauses for this
/// many times as long as the round took, so that it uses a tenth of the time at most.
const PAUSE_FACTOR: u32 = 9;
/// The longest time between two searches for versions that are old enough.
const LOOK_MAX: Duration = Duration::from_secs(600);

impl TenantEngine {
    /// Removes versions of a component: all versions of a name, or the one whose digest begins with `digest`. Returns
    /// their digests.
    ///
    /// # Errors
    /// When there is no such component or version, an execution may still need one of them, or the database does not
    /// answer.
    pub async fn remove_component(&self, name: &str, digest: Option<&str>) -> Result<Vec<Digest>, ApiError> {
        let (store, tenant) = (&*self.node.store, self.tenant);
        let all = store.components(tenant).await?;
        let mut versions = versions_of(&all, name, digest)?;
        for version in &versions {
            // A component that has another name as well is not deleted.
            let is_last_name = !all.iter().any(|other| other.digest == version.digest && other.name != name);
            if is_last_name {
                let limit = u32::try_from(USERS_SHOWN + 1).unwrap_or(u32::MAX);
                let users = store.component_users(tenant, &version.digest, limit).await?;
                refuse_if_used(version, &users)?;
            }
        }
        // The current version is removed last: as long as the name exists, it refers to that version.
        versions.sort_by_key(|version| version.current);
        let mut removed = Vec::new();
        for Component { name, digest, .. } in versions {
            let version = Version { tenant, name: name.clone(), digest: digest.clone() };
            // If the version is gone already, another request has removed it.
            let act = self.act("RemoveComponent", name.as_str(), digest.as_str());
            let _turn = self.node.turns.writes.next(tenant).await;
            store.remove_component(version, Removable::Any, act).await?;
            removed.push(digest.clone());
        }
        Ok(removed)
    }
}

/// Drops unused programs from memory, forever.
pub(crate) async fn keep_unloading(node: Arc<Node>) {
    loop {
        node.runtime.sleep(UNLOAD_AFTER).await;
        node.programs.rest();
    }
}

/// The refusal of a name that no component has.
pub(crate) fn no_component(name: &str) -> ApiError {
    ApiError::NotFound(format!("there is no component `{}`: see `cerebelum components`", name.escape_debug()))
}

/// The versions that match a name and the beginning of a digest.
pub(crate) fn versions_of<'c>(
    all: &'c [Component],
    name: &str,
    digest: Option<&str>,
) -> Result<Vec<&'c Component>, ApiError> {
    let shown = name.escape_debug();
    let mut versions: Vec<&Component> = all.iter().filter(|component| component.name == name).collect();
    if versions.is_empty() {
        return Err(no_component(name));
    }
    let Some(digest) = digest else { return Ok(versions) };
    versions.retain(|component| !digest.is_empty() && component.digest.as_str().starts_with(digest));
    match versions.len() {
        0 => Err(ApiError::NotFound(format!(
            "component `{shown}` has no version `{}`: see `cerebelum components`",
            digest.escape_debug()
        ))),
        1 => Ok(versions),
        count => Err(ApiError::Invalid(format!(
            "component `{shown}` has {count} versions whose digest begins with `{digest}`: give more digits"
        ))),
    }
}

fn refuse_if_used(version: &Component, users: &[ExecutionId]) -> Result<(), ApiError> {
    if users.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&str> = users.iter().take(USERS_SHOWN).map(ExecutionId::as_str).collect();
    if users.len() > USERS_SHOWN {
        names.push("…");
    }
    Err(ApiError::Conflict(format!(
        "version {} of component `{}` is needed by {}, open or failed: cancel or terminate what is open, then delete \
         what has failed",
        short(&version.digest),
        version.name,
        names.join(", ")
    )))
}

fn short(digest: &Digest) -> &str {
    digest.as_str().get(..DIGEST_DIGITS).unwrap_or(digest.as_str())
}

/// State that the rounds of one engine share.
#[derive(Default)]
struct Rounds {
    /// The components that existed in the previous round.
    known: BTreeSet<Digest>,
    /// The time of the next search for old versions, by the boot-time clock.
    look_at_ms: u64,
}

/// Removes old versions and the remains of removed ones, round after round, forever.
pub(crate) async fn keep_removing(node: Arc<Node>) {
    let grace = node.config.lease * GRACE_LEASES;
    let mut rounds = Rounds::default();
    loop {
        let began_ms = node.clock.boot_ms();
        if let Err(error) = round(&node, grace, &mut rounds).await {
            tracing::warn!(%error, "cannot look for components to be removed");
        }
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        node.runtime.sleep((took * PAUSE_FACTOR).max(grace)).await;
    }
}

async fn round(node: &Node, grace: Duration, rounds: &mut Rounds) -> Result<(), StoreError> {
    let is_time_to_look = node.clock.boot_ms() >= rounds.look_at_ms;
    if is_time_to_look {
        remove_old(node).await?;
        rounds.look_at_ms = node.clock.boot_ms() + millis(node.config.keep_components.min(LOOK_MAX));
    }
    let before = node.clock.ago(grace);
    for (tenant, digest) in node.store.nameless_components(before).await? {
        if done(delete_unused(node, tenant, &digest, before).await) {
            rounds.known.remove(&digest);
            node.programs.forget(&digest);
            tracing::info!(digest = short(&digest), "a component without a name is deleted");
        }
    }
    // Components that other engines have deleted.
    let now: BTreeSet<Digest> = node.store.digests().await?.into_iter().collect();
    for gone in rounds.known.difference(&now) {
        node.programs.forget(gone);
    }
    if is_time_to_look {
        // Left by an engine that died, or by another database.
        node.programs.forget_others(&now, node.config.keep_components);
    }
    rounds.known = now;
    Ok(())
}

/// Removes the names of versions that were replaced long ago and that no execution can need any more.
async fn remove_old(node: &Node) -> Result<(), StoreError> {
    let before = node.clock.ago(node.config.keep_components);
    for version in node.store.replaced_components(before).await? {
        let (name, digest) = (version.name.clone(), version.digest.clone());
        if done(remove_unused(node, version).await) {
            tracing::info!(name, digest = short(&digest), "an old version of a component is removed");
        }
    }
    Ok(())
}

async fn remove_unused(node: &Node, version: Version) -> Result<bool, StoreError> {
    let is_used = node.store.is_component_used(version.tenant, &version.digest).await?;
    Ok(!is_used && node.store.remove_component(version, Removable::Replaced, None).await?)
}

async fn delete_unused(node: &Node, tenant: TenantId, digest: &Digest, before: Timestamp) -> Result<bool, StoreError> {
    let is_used = node.store.is_component_used(tenant, digest).await?;
    Ok(!is_used && node.store.delete_component(tenant, digest, before).await?)
}

/// Whether something was removed. An error is one of a single component, which does not keep the others: the next round
/// looks at it again.
fn done(removed: Result<bool, StoreError>) -> bool {
    removed.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot find out whether a component is still needed");
        false
    })
}
