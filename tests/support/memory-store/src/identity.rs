//! Tenants and their tokens.

use cerebelum_history::Timestamp;
use cerebelum_store::{IdentityStore, StoreFuture, Tenant, TenantId, Token};

use crate::{MemoryStore, Tables};

/// A token's last use is noted to the minute.
const USE_MS: u64 = 60_000;

impl Tables {
    pub(crate) fn first_tenant() -> Tenant {
        Tenant { id: TenantId::DEFAULT, name: "default".to_owned(), created_at: Timestamp(0), suspended_at: None }
    }

    fn create_tenant(&mut self, name: String) -> Option<TenantId> {
        if self.tenants.iter().any(|tenant| tenant.name == name) {
            return None;
        }
        let id = TenantId(self.tenants.iter().map(|tenant| tenant.id.0).max().unwrap_or(0) + 1);
        self.tenants.push(Tenant { id, name, created_at: self.now, suspended_at: None });
        self.tenants.sort_by(|a, b| a.name.cmp(&b.name));
        Some(id)
    }

    fn suspend_tenant(&mut self, name: &str, suspended: bool) -> bool {
        let now = self.now;
        let found = self.tenants.iter_mut().find(|tenant| tenant.name == name);
        found.map(|tenant| tenant.suspended_at = suspended.then(|| tenant.suspended_at.unwrap_or(now))).is_some()
    }

    fn create_token(&mut self, token: Token, tokens_max: u32) -> bool {
        let live = |other: &&Token| other.tenant == token.tenant && other.revoked_at.is_none();
        if !self.tenants.iter().any(|tenant| tenant.id == token.tenant)
            || self.tokens.iter().filter(live).count() >= tokens_max as usize
        {
            return false;
        }
        self.tokens.push(Token { created_at: self.now, ..token });
        true
    }

    fn use_token(&mut self, id: &str) -> Option<(Token, Tenant)> {
        let now = self.now;
        let token = self.tokens.iter_mut().find(|token| token.id == id)?;
        let found = token.clone();
        if token.last_used_at.is_none_or(|last| last.plus(USE_MS) <= now) {
            token.last_used_at = Some(now);
        }
        let tenant = self.tenants.iter().find(|tenant| tenant.id == found.tenant)?;
        Some((found, tenant.clone()))
    }

    fn revoke_token(&mut self, tenant: TenantId, id: &str) -> bool {
        let now = self.now;
        let is_it = |token: &&mut Token| token.tenant == tenant && token.id == id && token.revoked_at.is_none();
        self.tokens.iter_mut().find(is_it).map(|token| token.revoked_at = Some(now)).is_some()
    }
}

impl IdentityStore for MemoryStore {
    fn create_tenant(&self, name: &str) -> StoreFuture<'_, Option<TenantId>> {
        self.transact(|tables| tables.create_tenant(name.to_owned()))
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        self.transact(|tables| tables.tenants.clone())
    }

    fn suspend_tenant(&self, name: &str, suspended: bool) -> StoreFuture<'_, bool> {
        self.transact(|tables| tables.suspend_tenant(name, suspended))
    }

    fn create_token(&self, token: Token, tokens_max: u32) -> StoreFuture<'_, bool> {
        self.transact(|tables| tables.create_token(token, tokens_max))
    }

    fn tokens(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Token>> {
        self.transact(|tables| {
            let mut tokens: Vec<Token> = tables.tokens.iter().filter(|token| token.tenant == tenant).cloned().collect();
            tokens.sort_by(|a, b| (b.created_at, &a.id).cmp(&(a.created_at, &b.id)));
            tokens
        })
    }

    fn use_token(&self, id: &str) -> StoreFuture<'_, Option<(Token, Tenant)>> {
        self.transact(|tables| tables.use_token(id))
    }

    fn revoke_token(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, bool> {
        self.transact(|tables| tables.revoke_token(tenant, id))
    }

    fn has_tokens(&self) -> StoreFuture<'_, bool> {
        self.transact(|tables| !tables.tokens.is_empty())
    }
}
