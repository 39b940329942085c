//! Saved views of lists.

use cerebelum_store::{Act, NewView, StoreFuture, StoredView, TenantId, ViewKey, ViewLimits, ViewStore};

use crate::{MemoryStore, Tables};

impl Tables {
    fn save_view(&mut self, new: NewView, limits: ViewLimits) -> bool {
        let NewView { key, content, saved_by } = new;
        let tenant = key.tenant;
        if !self.tenants.iter().any(|found| found.id == tenant && found.deleted_at.is_none()) {
            return false;
        }
        let names: Vec<String> =
            self.tokens.iter().filter(|token| token.tenant == tenant).map(|token| token.name.clone()).collect();
        let is_known = |of: &ViewKey| of.owner.as_ref().is_none_or(|owner| names.contains(owner));
        self.views.retain(|of, _| of.tenant != tenant || of.owner == key.owner || is_known(of));
        let all = self.views.keys().filter(|of| of.tenant == tenant).count();
        let own = self.views.keys().filter(|of| of.tenant == tenant && of.owner == key.owner).count();
        let is_full = own >= limits.of_owner as usize || all >= limits.of_tenant as usize;
        if is_full && !self.views.contains_key(&key) {
            return false;
        }
        self.views.insert(key.clone(), StoredView { key, content, saved_by, saved_at: self.now });
        true
    }
}

impl ViewStore for MemoryStore {
    fn save_view(&self, view: NewView, limits: ViewLimits, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.save_view(view, limits), |saved| *saved)
    }

    fn views(&self, tenant: TenantId, owner: Option<&str>) -> StoreFuture<'_, Vec<StoredView>> {
        let owner = owner.map(str::to_owned);
        self.transact(move |tables| {
            let is_seen =
                |of: &&StoredView| of.key.tenant == tenant && (of.key.owner.is_none() || of.key.owner == owner);
            tables.views.values().filter(is_seen).cloned().collect()
        })
    }

    fn delete_view(&self, key: ViewKey, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.views.remove(&key).is_some(), |deleted| *deleted)
    }
}
