//! Tenants and their tokens.

use std::collections::BTreeMap;

use cerebelum_history::Timestamp;
use cerebelum_store::{Act, IdentityStore, State, StoreFuture, Tenant, TenantId, Token};

use crate::{MemoryStore, Row, Tables};

/// A token's last use is noted to the minute.
const USE_MS: u64 = 60_000;

fn is_valid(token: &Token, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now)
}

impl Tables {
    pub(crate) fn first_tenant() -> Tenant {
        Tenant {
            id: TenantId::DEFAULT,
            name: "default".to_owned(),
            created_at: Timestamp(0),
            suspended_at: None,
            quotas: "{}".to_owned(),
            deleted_at: None,
        }
    }

    fn create_tenant(&mut self, name: String) -> Option<TenantId> {
        if self.tenants.iter().any(|tenant| tenant.name == name) {
            return None;
        }
        let id = TenantId(self.tenants.iter().map(|tenant| tenant.id.0).max().unwrap_or(0) + 1);
        let (created_at, quotas) = (self.now, "{}".to_owned());
        self.tenants.push(Tenant { id, name, created_at, suspended_at: None, quotas, deleted_at: None });
        self.tenants.sort_by(|a, b| a.name.cmp(&b.name));
        Some(id)
    }

    fn suspend_tenant(&mut self, name: &str, suspended: bool) -> bool {
        let now = self.now;
        let may = |tenant: &&mut Tenant| tenant.name == name && (suspended || tenant.deleted_at.is_none());
        let found = self.tenants.iter_mut().find(may);
        found.map(|tenant| tenant.suspended_at = suspended.then(|| tenant.suspended_at.unwrap_or(now))).is_some()
    }

    fn delete_tenant(&mut self, name: &str) -> bool {
        let now = self.now;
        let may =
            |tenant: &&mut Tenant| tenant.name == name && tenant.suspended_at.is_some() && tenant.deleted_at.is_none();
        self.tenants.iter_mut().find(may).map(|tenant| tenant.deleted_at = Some(now)).is_some()
    }

    pub(crate) fn is_deleted(&self, tenant: TenantId) -> bool {
        self.tenants.iter().any(|found| found.id == tenant && found.deleted_at.is_some())
    }

    /// Everything at once: nothing here is large.
    fn purge_tenant(&mut self, tenant: TenantId, before: Timestamp) -> u64 {
        let Some(found) = self.tenants.iter_mut().find(|found| found.id == tenant) else { return 0 };
        let Some(deleted_at) = found.deleted_at else { return 0 };
        let count = self.executions.len() + self.components.len() + self.tokens.len() + self.acts.len();
        self.executions.retain(|key, _| key.tenant != tenant);
        self.questions.retain(|(of, _), _| *of != tenant);
        self.links.retain(|(of, _)| *of != tenant);
        self.bulk_jobs.retain(|stored| stored.tenant() != tenant);
        self.components.retain(|(of, _, _), _| *of != tenant);
        self.grants.retain(|(of, _), _| *of != tenant);
        self.bytes.retain(|(of, _), _| *of != tenant);
        self.nameless.retain(|(of, _), _| *of != tenant);
        self.tokens.retain(|token| token.tenant != tenant);
        self.acts.retain(|(of, _, _)| *of != tenant);
        self.egress.remove(&tenant);
        self.views.retain(|key, _| key.tenant != tenant);
        let left = self.executions.len() + self.components.len() + self.tokens.len() + self.acts.len();
        if count == left && deleted_at < before {
            found.name = format!("#{}", tenant.0);
        }
        (count - left) as u64
    }

    fn create_token(&mut self, token: Token, tokens_max: u32) -> bool {
        let now = self.now;
        let live = |other: &&Token| other.tenant == token.tenant && is_valid(other, now);
        if !self.tenants.iter().any(|tenant| tenant.id == token.tenant && tenant.deleted_at.is_none())
            || self.tokens.iter().filter(live).count() >= tokens_max as usize
        {
            return false;
        }
        let tenant = token.tenant;
        self.tokens.push(Token { created_at: now, ..token });
        let mut ended: Vec<(Timestamp, String)> = self
            .tokens
            .iter()
            .filter(|token| token.tenant == tenant && !is_valid(token, now))
            .map(|token| (token.created_at, token.id.clone()))
            .collect();
        ended.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        let forgotten: Vec<String> = ended.into_iter().skip(tokens_max as usize).map(|(_, id)| id).collect();
        self.tokens.retain(|token| !forgotten.contains(&token.id));
        true
    }

    fn find_token(&self, id: &str) -> Option<(Token, Tenant)> {
        let token = self.tokens.iter().find(|token| token.id == id)?;
        let tenant = self.tenants.iter().find(|tenant| tenant.id == token.tenant)?;
        Some((token.clone(), tenant.clone()))
    }

    fn note_use(&mut self, id: &str) {
        let now = self.now;
        let is_it = |token: &&mut Token| token.id == id && token.last_used_at.is_none_or(|at| at.plus(USE_MS) <= now);
        if let Some(token) = self.tokens.iter_mut().find(is_it) {
            token.last_used_at = Some(now);
        }
    }

    fn revoke_token(&mut self, tenant: TenantId, id: &str) -> bool {
        let now = self.now;
        let is_it = |token: &&mut Token| token.tenant == tenant && token.id == id && token.revoked_at.is_none();
        self.tokens.iter_mut().find(is_it).map(|token| token.revoked_at = Some(now)).is_some()
    }
}

impl IdentityStore for MemoryStore {
    fn create_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, Option<TenantId>> {
        self.act(act, |tables| tables.create_tenant(name.to_owned()), Option::is_some)
    }

    fn stored_bytes(&self) -> StoreFuture<'_, BTreeMap<TenantId, u64>> {
        self.transact(|tables| {
            let mut stored = BTreeMap::new();
            for (key, row) in &tables.executions {
                let bytes: usize = row.runs.values().flatten().map(|chunk| chunk.events.len()).sum();
                *stored.entry(key.tenant).or_default() += bytes as u64;
            }
            stored
        })
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        self.transact(|tables| {
            let is_there = |tenant: &&Tenant| !tenant.name.starts_with('#');
            tables.tenants.iter().filter(is_there).cloned().collect()
        })
    }

    fn find_tenant(&self, name: &str) -> StoreFuture<'_, Option<Tenant>> {
        let is_it = |tenant: &&Tenant| tenant.name == name && !tenant.name.starts_with('#');
        self.transact(|tables| tables.tenants.iter().find(is_it).cloned())
    }

    fn suspend_tenant(&self, name: &str, suspended: bool, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.suspend_tenant(name, suspended), |found| *found)
    }

    fn delete_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.delete_tenant(name), |marked| *marked)
    }

    fn purge_tenant(&self, tenant: TenantId, before: Timestamp, _: u32) -> StoreFuture<'_, u64> {
        self.transact(|tables| tables.purge_tenant(tenant, before))
    }

    fn set_quotas(&self, name: &str, (from, to): (&str, &str), act: Option<Act>) -> StoreFuture<'_, bool> {
        let set = |tables: &mut Tables| {
            let found = tables.tenants.iter_mut().find(|tenant| tenant.name == name && tenant.quotas == from);
            found.map(|tenant| to.clone_into(&mut tenant.quotas)).is_some()
        };
        self.act(act, set, |is_set| *is_set)
    }

    fn count_open(&self, tenant: TenantId, max: u64) -> StoreFuture<'_, u64> {
        self.transact(|tables| {
            let is_open = |row: &&Row| row.head.key.tenant == tenant && row.head.state == State::Open;
            (tables.executions.values().filter(is_open).count() as u64).min(max)
        })
    }

    fn create_token(&self, token: Token, tokens_max: u32, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.create_token(token, tokens_max), |created| *created)
    }

    fn tokens(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Token>> {
        self.transact(|tables| {
            let mut tokens: Vec<Token> = tables.tokens.iter().filter(|token| token.tenant == tenant).cloned().collect();
            let now = tables.now;
            let rank = |token: &Token| (!is_valid(token, now), std::cmp::Reverse(token.created_at), token.id.clone());
            tokens.sort_by_key(rank);
            tokens
        })
    }

    fn find_token(&self, id: &str) -> StoreFuture<'_, Option<(Token, Tenant)>> {
        self.transact(|tables| tables.find_token(id))
    }

    fn note_use(&self, id: &str) -> StoreFuture<'_, ()> {
        self.transact(|tables| tables.note_use(id))
    }

    fn revoke_token(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.revoke_token(tenant, id), |revoked| *revoked)
    }

    fn has_tokens(&self) -> StoreFuture<'_, bool> {
        self.transact(|tables| !tables.tokens.is_empty())
    }
}
