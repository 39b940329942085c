//! Components: kept under names, found by their users, and removed.

use cerebelum_history::{Digest, ExecutionId, Timestamp};
use cerebelum_store::{Component, Removable, State, TenantId, Version, VersionChange, VersionState};

use crate::tables::{Row, Tables};

impl Tables {
    pub(crate) fn keep_component(
        &mut self,
        tenant: TenantId,
        (component, change): (Component, &VersionChange),
        bytes: Vec<u8>,
    ) -> bool {
        if change.uploads != self.uploads {
            return false;
        }
        let Component { name, digest, .. } = component.clone();
        let key = (tenant, digest.as_str().to_owned());
        self.nameless.remove(&key);
        self.bytes.insert(key.clone(), bytes);
        self.components.entry((tenant, name.clone(), key.1)).or_insert(component);
        self.change_version(&Version { tenant, name, digest }, change)
    }

    pub(crate) fn change_version(&mut self, version: &Version, change: &VersionChange) -> bool {
        let Version { tenant, name, digest } = version;
        if change.uploads != self.uploads {
            return false;
        }
        self.uploads += 1;
        let key = (*tenant, name.clone(), digest.as_str().to_owned());
        if change.state == VersionState::Current {
            for ((of, named, there), component) in &mut self.components {
                component.current &= *of != *tenant || named != name || *there == key.2;
            }
        }
        if let Some(component) = self.components.get_mut(&key).filter(|component| !component.current) {
            component.uploaded_at = self.now;
            component.current = change.state == VersionState::Current;
            component.proposed = change.state == VersionState::Proposed;
        }
        self.grants.insert((*tenant, name.clone()), change.granted.clone());
        true
    }

    pub(crate) fn components(&self, tenant: TenantId) -> Vec<Component> {
        let of_tenant = self.components.iter().filter(|((of, _, _), _)| *of == tenant);
        let granted = |component: &Component| self.grants.get(&(tenant, component.name.clone())).cloned();
        let all = of_tenant.map(|(_, component)| Component { granted: granted(component), ..component.clone() });
        let mut all: Vec<Component> = all.collect();
        all.sort_by(|a, b| (&a.name, b.current, b.uploaded_at).cmp(&(&b.name, a.current, a.uploaded_at)));
        all
    }

    pub(crate) fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> Vec<ExecutionId> {
        let uses = |row: &&Row| row.head.key.tenant == tenant && is_used_by(digest, row);
        let users = self.executions.values().filter(uses).map(|row| row.head.key.id.clone());
        users.take(limit as usize).collect()
    }

    pub(crate) fn remove_component(&mut self, version: &Version, which: Removable) -> bool {
        let Version { tenant, name, digest } = version;
        let key = (*tenant, name.clone(), digest.as_str().to_owned());
        let is_removable = |found: &Component| which == Removable::Any || !found.current;
        if !self.components.get(&key).is_some_and(is_removable) {
            return false;
        }
        self.components.remove(&key);
        self.uploads += 1;
        if !self.components.keys().any(|(of, named, _)| of == tenant && named == name) {
            self.grants.remove(&(*tenant, name.clone()));
        }
        if !self.has_name(*tenant, digest.as_str()) {
            self.nameless.insert((*tenant, digest.as_str().to_owned()), self.now);
        }
        true
    }

    pub(crate) fn replaced_components(&self, before: Timestamp) -> Vec<Version> {
        let is_later = |old: &Component, new: &Component| {
            old.name == new.name && new.uploaded_at > old.uploaded_at && new.uploaded_at < before
        };
        let is_replaced = |tenant: TenantId, old: &Component| {
            !old.current && self.components.iter().any(|((of, _, _), new)| *of == tenant && is_later(old, new))
        };
        let replaced = self.components.iter().filter(|((tenant, _, _), old)| is_replaced(*tenant, old));
        let version = |((tenant, name, _), old): (&(TenantId, String, String), &Component)| Version {
            tenant: *tenant,
            name: name.clone(),
            digest: old.digest.clone(),
        };
        replaced.map(version).collect()
    }

    pub(crate) fn nameless_components(&self, before: Timestamp) -> Vec<(TenantId, Digest)> {
        let gone = self.nameless.iter().filter(|(_, since)| **since < before);
        gone.map(|((tenant, digest), _)| (*tenant, Digest::from_text(digest))).collect()
    }

    pub(crate) fn delete_component(&mut self, tenant: TenantId, digest: &Digest, before: Timestamp) -> bool {
        let key = (tenant, digest.as_str().to_owned());
        let is_due = self.nameless.get(&key).is_some_and(|since| *since < before);
        if is_due {
            self.nameless.remove(&key);
            self.bytes.remove(&key);
        }
        is_due
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        let digests: std::collections::BTreeSet<&String> = self.bytes.keys().map(|(_, digest)| digest).collect();
        digests.into_iter().map(|digest| Digest::from_text(digest)).collect()
    }

    fn has_name(&self, tenant: TenantId, digest: &str) -> bool {
        self.components.keys().any(|(of, _, named)| *of == tenant && named == digest)
    }
}

fn is_used_by(digest: &Digest, row: &Row) -> bool {
    let (head, names_it) = (&row.head, |text: &String| text.contains(digest.as_str()));
    match head.state {
        State::Completed | State::Cancelled => false,
        State::Open | State::Failed if head.digest == *digest || row.calls.values().any(names_it) => true,
        State::Open => false,
        State::Failed => row.runs.get(&head.run).into_iter().flatten().any(|chunk| names_it(&chunk.events)),
    }
}
