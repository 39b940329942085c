//! The tables that only clients use, over a node's link: acts, bulk jobs, links, secrets and views.

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{
    Act, ApprovalLink, AuditFilter, AuditPage, AuditStore, BulkJob, BulkRefusal, BulkStep, BulkStore, Egress,
    FoundLink, Incarnation, LinkOutcome, LinkStore, NewBulkJob, NewLink, NewView, SecretChange, SecretStore,
    StoreFuture, StoredView, TenantId, ViewKey, ViewLimits, ViewStore,
};

use super::Link;

impl AuditStore for Link {
    fn acts(&self, tenant: TenantId, filter: AuditFilter) -> StoreFuture<'_, AuditPage> {
        self.read(move |memory| memory.acts(tenant, filter))
    }

    fn delete_acts(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.call(move |memory| memory.delete_acts(tenant, before, limit))
    }
}

impl BulkStore for Link {
    fn create_bulk(&self, job: NewBulkJob, limits: (u32, u32), act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.create_bulk(job, limits, act))
    }

    fn bulk_jobs(&self, tenant: TenantId) -> StoreFuture<'_, Vec<BulkJob>> {
        self.read(move |memory| memory.bulk_jobs(tenant))
    }

    fn bulk_job(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<BulkJob>> {
        let id = id.to_owned();
        self.read(move |memory| memory.bulk_job(tenant, &id))
    }

    fn bulk_refusals(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Vec<BulkRefusal>> {
        let id = id.to_owned();
        self.read(move |memory| memory.bulk_refusals(tenant, &id))
    }

    fn stop_bulk(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        self.call(move |memory| memory.stop_bulk(tenant, &id, act))
    }

    fn claim_bulk(&self, node: Incarnation) -> StoreFuture<'_, Vec<(TenantId, String)>> {
        self.call(move |memory| memory.claim_bulk(node))
    }

    fn bulk_step(&self, step: BulkStep) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.bulk_step(step))
    }
}

impl LinkStore for Link {
    fn create_link(&self, link: NewLink, links_max: u32, act: Option<Act>) -> StoreFuture<'_, LinkOutcome> {
        self.call(move |memory| memory.create_link(link, links_max, act))
    }

    fn find_link(&self, digest: &Digest) -> StoreFuture<'_, Option<FoundLink>> {
        let digest = digest.clone();
        self.read(move |memory| memory.find_link(&digest))
    }

    fn links(&self, tenant: TenantId, approval: &str) -> StoreFuture<'_, Vec<ApprovalLink>> {
        let approval = approval.to_owned();
        self.read(move |memory| memory.links(tenant, &approval))
    }

    fn revoke_link(&self, (tenant, approval): (TenantId, &str), id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let (approval, id) = (approval.to_owned(), id.to_owned());
        self.call(move |memory| memory.revoke_link((tenant, &approval), &id, act))
    }
}

impl SecretStore for Link {
    fn egress(&self, tenant: TenantId) -> StoreFuture<'_, Egress> {
        self.read(move |memory| memory.egress(tenant))
    }

    fn change_secrets(
        &self,
        tenant: TenantId,
        version: i64,
        change: SecretChange,
        act: Option<Act>,
    ) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.change_secrets(tenant, version, change, act))
    }

    fn set_hosts(&self, name: &str, hosts: Option<String>, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.call(move |memory| memory.set_hosts(&name, hosts, act))
    }
}

impl ViewStore for Link {
    fn save_view(&self, view: NewView, limits: ViewLimits, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.save_view(view, limits, act))
    }

    fn views(&self, tenant: TenantId, owner: Option<&str>) -> StoreFuture<'_, Vec<StoredView>> {
        let owner = owner.map(str::to_owned);
        self.read(move |memory| memory.views(tenant, owner.as_deref()))
    }

    fn delete_view(&self, key: ViewKey, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.delete_view(key, act))
    }
}
