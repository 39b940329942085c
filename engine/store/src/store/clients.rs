//! The methods for what clients keep beside executions: components, secrets, links, tenants and tokens, jobs, the audit.

use std::collections::BTreeMap;

use cerebelum_history::{Digest, ExecutionId, Timestamp};

use super::SqlStore;
use crate::audit::{Act, AuditFilter, AuditPage};
use crate::bulk::{BulkJob, BulkRefusal, BulkStep, NewBulkJob};
use crate::contract::{
    AuditStore, BulkStore, ComponentStore, IdentityStore, LinkStore, SecretStore, StoreFuture, ViewStore,
};
use crate::identity::{Tenant, Token};
use crate::links::{ApprovalLink, FoundLink, LinkOutcome, NewLink};
use crate::metrics::Operation;
use crate::model::{Component, Incarnation, TenantId};
use crate::removal::{Removable, Version};
use crate::requests::{Upload, VersionChange};
use crate::saved_views::{NewView, StoredView, ViewKey, ViewLimits};
use crate::secrets::{Egress, SecretChange};
use crate::{audit, bulk, components, identity, links, purge, removal, saved_views, secrets, storage};

impl AuditStore for SqlStore {
    fn acts(&self, tenant: TenantId, filter: AuditFilter) -> StoreFuture<'_, AuditPage> {
        self.run(Operation::Read, async move { audit::list(&self.database, tenant, &filter).await })
    }

    fn delete_acts(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.run(Operation::Sweep, async move { audit::delete(&self.database, tenant, before, limit).await })
    }
}

impl BulkStore for SqlStore {
    fn create_bulk(&self, job: NewBulkJob, limits: (u32, u32), act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move { bulk::create(&self.database, &job, limits, act.as_ref()).await })
    }

    fn bulk_jobs(&self, tenant: TenantId) -> StoreFuture<'_, Vec<BulkJob>> {
        self.run(Operation::Read, async move { bulk::list(&self.database, tenant).await })
    }

    fn bulk_job(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<BulkJob>> {
        let id = id.to_owned();
        self.run(Operation::Read, async move { bulk::find(&self.database, tenant, &id).await })
    }

    fn bulk_refusals(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Vec<BulkRefusal>> {
        let id = id.to_owned();
        self.run(Operation::Read, async move { bulk::refusals(&self.database, tenant, &id).await })
    }

    fn stop_bulk(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        self.run(Operation::Write, async move { bulk::stop(&self.database, (tenant, &id), act.as_ref()).await })
    }

    fn claim_bulk(&self, node: Incarnation) -> StoreFuture<'_, Vec<(TenantId, String)>> {
        self.run(Operation::Claim, async move { bulk::claim(&self.database, node).await })
    }

    fn bulk_step(&self, step: BulkStep) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            let moved = bulk::step(&self.database, &step).await?;
            let is_done = moved.is_some();
            self.hints.tell(moved.unwrap_or_default());
            Ok(is_done)
        })
    }
}

impl SecretStore for SqlStore {
    fn egress(&self, tenant: TenantId) -> StoreFuture<'_, Egress> {
        self.run(Operation::Read, async move { secrets::egress(&self.database, tenant).await })
    }

    fn change_secrets(
        &self,
        tenant: TenantId,
        version: i64,
        change: SecretChange,
        act: Option<Act>,
    ) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            secrets::change(&self.database, (tenant, version), &change, act.as_ref()).await
        })
    }

    fn set_hosts(&self, name: &str, hosts: Option<String>, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.run(Operation::Write, async move { secrets::set_hosts(&self.database, &name, hosts, act.as_ref()).await })
    }
}

impl ViewStore for SqlStore {
    fn save_view(&self, view: NewView, limits: ViewLimits, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move { saved_views::save(&self.database, &view, limits, act.as_ref()).await })
    }

    fn views(&self, tenant: TenantId, owner: Option<&str>) -> StoreFuture<'_, Vec<StoredView>> {
        let owner = owner.map(str::to_owned);
        self.run(Operation::Read, async move { saved_views::list(&self.database, tenant, owner.as_deref()).await })
    }

    fn delete_view(&self, key: ViewKey, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move { saved_views::delete(&self.database, &key, act.as_ref()).await })
    }
}

impl LinkStore for SqlStore {
    fn create_link(&self, link: NewLink, links_max: u32, act: Option<Act>) -> StoreFuture<'_, LinkOutcome> {
        self.run(Operation::Write, async move { links::create(&self.database, &link, links_max, act.as_ref()).await })
    }

    fn find_link(&self, digest: &Digest) -> StoreFuture<'_, Option<FoundLink>> {
        let digest = digest.clone();
        self.run(Operation::Read, async move { links::find(&self.database, &digest).await })
    }

    fn links(&self, tenant: TenantId, approval: &str) -> StoreFuture<'_, Vec<ApprovalLink>> {
        let approval = approval.to_owned();
        self.run(Operation::Read, async move { links::list(&self.database, tenant, &approval).await })
    }

    fn revoke_link(&self, (tenant, approval): (TenantId, &str), id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let (approval, id) = (approval.to_owned(), id.to_owned());
        self.run(Operation::Write, async move {
            links::revoke(&self.database, (tenant, &approval), &id, act.as_ref()).await
        })
    }
}

impl ComponentStore for SqlStore {
    fn keep_component(&self, upload: Upload, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            let kept = components::keep(&self.database, &upload, act.as_ref()).await?;
            Ok(self.uploads.counted(upload.tenant, kept))
        })
    }

    fn change_version(&self, version: Version, change: VersionChange, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            let placed = components::change_version(&self.database, &version, &change, act.as_ref()).await?;
            Ok(self.uploads.counted(version.tenant, placed))
        })
    }

    fn components(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Component>> {
        self.run(Operation::Read, async move { components::list(&self.database, tenant).await })
    }

    fn uploads(&self, tenant: TenantId) -> StoreFuture<'_, i64> {
        self.run(Operation::Read, async move { self.uploads.of(&self.database, tenant).await })
    }

    fn component_bytes(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Vec<u8>>> {
        let digest = digest.clone();
        self.run(Operation::Read, async move { components::bytes(&self.database, tenant, &digest).await })
    }

    fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> StoreFuture<'_, Vec<ExecutionId>> {
        let digest = digest.clone();
        self.run(Operation::Read, async move { removal::users(&self.database, tenant, &digest, limit).await })
    }

    fn is_component_used(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, bool> {
        let digest = digest.clone();
        self.run(Operation::Sweep, async move { removal::is_used(&self.database, tenant, &digest).await })
    }

    fn remove_component(&self, version: Version, which: Removable, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            let removed = removal::remove(&self.database, &version, which, act.as_ref()).await?;
            Ok(self.uploads.counted(version.tenant, removed))
        })
    }

    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>> {
        self.run(Operation::Read, async move { removal::replaced(&self.database, before).await })
    }

    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>> {
        self.run(Operation::Read, async move { removal::nameless(&self.database, before).await })
    }

    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool> {
        let digest = digest.clone();
        self.run(Operation::Sweep, async move {
            let deleted = removal::delete(&self.database, tenant, &digest, before).await?;
            Ok(self.uploads.counted(tenant, deleted))
        })
    }

    fn digests(&self) -> StoreFuture<'_, Vec<Digest>> {
        self.run(Operation::Read, async move { removal::digests(&self.database).await })
    }
}

impl IdentityStore for SqlStore {
    fn create_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, Option<TenantId>> {
        let name = name.to_owned();
        self.run(Operation::Write, async move { identity::create_tenant(&self.database, &name, act.as_ref()).await })
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        self.run(Operation::Read, async move { identity::tenants(&self.database).await })
    }

    fn find_tenant(&self, name: &str) -> StoreFuture<'_, Option<Tenant>> {
        let name = name.to_owned();
        self.run(Operation::Read, async move { identity::find_tenant(&self.database, &name).await })
    }

    fn stored_bytes(&self) -> StoreFuture<'_, BTreeMap<TenantId, u64>> {
        self.run(Operation::Read, async move { storage::of_tenants(&self.database).await })
    }

    fn suspend_tenant(&self, name: &str, suspended: bool, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.run(Operation::Write, async move {
            identity::suspend_tenant(&self.database, &name, suspended, act.as_ref()).await
        })
    }

    fn delete_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.run(Operation::Write, async move { purge::mark(&self.database, &name, act.as_ref()).await })
    }

    fn purge_tenant(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.run(Operation::Sweep, async move { purge::purge(&self.database, tenant, before, limit).await })
    }

    fn set_quotas(&self, name: &str, (from, to): (&str, &str), act: Option<Act>) -> StoreFuture<'_, bool> {
        let (name, from, to) = (name.to_owned(), from.to_owned(), to.to_owned());
        self.run(Operation::Write, async move {
            identity::set_quotas(&self.database, &name, (&from, &to), act.as_ref()).await
        })
    }

    fn count_open(&self, tenant: TenantId, max: u64) -> StoreFuture<'_, u64> {
        self.run(Operation::Read, async move { identity::count_open(&self.database, tenant, max).await })
    }

    fn create_token(&self, token: Token, tokens_max: u32, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.run(Operation::Write, async move {
            identity::create_token(&self.database, &token, tokens_max, act.as_ref()).await
        })
    }

    fn tokens(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Token>> {
        self.run(Operation::Read, async move { identity::tokens(&self.database, tenant).await })
    }

    fn find_token(&self, id: &str) -> StoreFuture<'_, Option<(Token, Tenant)>> {
        let id = id.to_owned();
        self.run(Operation::Read, async move { identity::find_token(&self.database, &id).await })
    }

    fn note_use(&self, id: &str) -> StoreFuture<'_, ()> {
        let id = id.to_owned();
        self.run(Operation::Write, async move { identity::note_use(&self.database, &id).await })
    }

    fn revoke_token(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        self.run(
            Operation::Write,
            async move { identity::revoke_token(&self.database, tenant, &id, act.as_ref()).await },
        )
    }

    fn has_tokens(&self) -> StoreFuture<'_, bool> {
        self.run(Operation::Read, async move { identity::has_tokens(&self.database).await })
    }
}
