//! Sealed secrets.

use cerebelum_store::{Act, Egress, SecretChange, SecretStore, StoreFuture, StoredSecret, TenantId};

use crate::{MemoryStore, Tables};

impl Tables {
    fn change_secrets(&mut self, tenant: TenantId, version: i64, change: SecretChange) -> bool {
        if self.is_deleted(tenant) {
            return false;
        }
        let now = self.now;
        let egress = self.egress.entry(tenant).or_default();
        let first_key = !matches!(change, SecretChange::Put(_, Some(_)) | SecretChange::Replace(..));
        if egress.version != version || (version == 0 && first_key) {
            return false;
        }
        let put = |egress: &mut Egress, secret: StoredSecret| {
            let before = egress.secrets.iter().position(|other| other.name == secret.name);
            let created_at = before.map_or(now, |at| egress.secrets.remove(at).created_at);
            egress.secrets.push(StoredSecret { created_at, changed_at: now, ..secret });
        };
        egress.version += 1;
        match change {
            SecretChange::Put(secret, key) => {
                egress.key = key.or(egress.key.take());
                put(egress, secret);
            }
            SecretChange::Delete(name) => egress.secrets.retain(|secret| secret.name != name),
            SecretChange::Replace(key, secrets) => {
                egress.key = Some(key);
                secrets.into_iter().for_each(|secret| put(egress, secret));
            }
        }
        egress.secrets.sort_by(|a, b| a.name.cmp(&b.name));
        true
    }

    fn set_hosts(&mut self, name: &str, hosts: Option<String>) -> bool {
        let Some(tenant) = self.tenants.iter().find(|tenant| tenant.name == name && tenant.deleted_at.is_none()) else {
            return false;
        };
        self.egress.entry(tenant.id).or_default().hosts = hosts;
        true
    }
}

impl SecretStore for MemoryStore {
    fn egress(&self, tenant: TenantId) -> StoreFuture<'_, Egress> {
        self.transact(|tables| {
            let quotas = tables.tenants.iter().find(|found| found.id == tenant).map(|found| found.quotas.clone());
            let stored = tables.egress.get(&tenant).cloned().unwrap_or_default();
            Egress { quotas: quotas.unwrap_or_default(), ..stored }
        })
    }

    fn change_secrets(
        &self,
        tenant: TenantId,
        version: i64,
        change: SecretChange,
        act: Option<Act>,
    ) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.change_secrets(tenant, version, change), |changed| *changed)
    }

    fn set_hosts(&self, name: &str, hosts: Option<String>, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.set_hosts(name, hosts), |found| *found)
    }
}
