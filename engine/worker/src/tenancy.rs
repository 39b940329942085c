//! Manages tenants and tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Timestamp;
use cerebelum_store::{Act, Actor, Store, StoreError, Tenant, TenantId, Token};

use crate::api::ApiError;
use crate::engine::Engine;
use crate::identity::{Action, Caller, Credential, Role};
use crate::quotas::{Quota, Quotas};

/// The most tokens of a tenant that are not revoked.
const TOKENS_MAX: u32 = 1_000;
/// The longest name of a tenant, in bytes.
const TENANT_NAME_BYTES_MAX: usize = 64;
/// The longest name of a token's owner, in bytes.
const TOKEN_NAME_BYTES_MAX: usize = 128;
/// How often quotas are read again after another request has changed them meanwhile.
const QUOTA_ATTEMPTS_MAX: usize = 20;
/// How long the offline creation of a token may hold the database, which it does not use as an engine.
const OFFLINE_LEASE: Duration = Duration::from_secs(10);

/// A tenant, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantView {
    /// Its name.
    pub name: String,
    /// Its number, by which the log names it: an execution there is `NUMBER/ID`.
    pub number: i32,
    /// The time of its creation; 0 for `default`.
    pub created_at: Timestamp,
    /// The time since which its tokens are refused.
    pub suspended_at: Option<Timestamp>,
    /// The time since which it is being deleted.
    pub deleted_at: Option<Timestamp>,
}

/// A tenant with its quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDetail {
    /// The tenant.
    pub tenant: TenantView,
    /// All quotas.
    pub quotas: Vec<QuotaView>,
    /// The hosts that the operator allows to it; none for what the engine's configuration says.
    pub hosts: Option<Vec<String>>,
}

/// A quota of a tenant, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaView {
    /// Its name.
    pub name: &'static str,
    /// How much the tenant may have.
    pub max: u64,
    /// Whether it was set for this tenant.
    pub is_set: bool,
    /// How much the tenant has; none of a rate.
    pub used: Option<u64>,
}

/// A token without its secret, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its public part.
    pub id: String,
    /// The name of its tenant.
    pub tenant: String,
    /// Its role.
    pub role: String,
    /// The name of its owner.
    pub name: String,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time from which it is refused.
    pub expires_at: Option<Timestamp>,
    /// The time since which it is refused.
    pub revoked_at: Option<Timestamp>,
    /// The time of its last use, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The tenant; that of the caller if there is none.
    pub tenant: Option<String>,
    /// The role, in a word.
    pub role: String,
    /// The name of its owner. Answers to questions carry this name.
    pub name: String,
    /// Milliseconds until it is refused; never if there are none.
    pub expires_in_ms: Option<u64>,
}

/// A token that was created. The secret is shown here and nowhere else.
#[derive(Debug, Clone)]
pub struct CreatedToken {
    /// The token without its secret.
    pub view: TokenView,
    /// The whole token, `cb_ID_SECRET`.
    pub secret: String,
}

impl Engine {
    /// Creates a tenant.
    ///
    /// # Errors
    /// When the caller may not, the name is not valid or taken, or the database does not answer.
    pub async fn create_tenant(&self, caller: &Caller, name: &str) -> Result<TenantView, ApiError> {
        caller.check(Action::Tenants)?;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > TENANT_NAME_BYTES_MAX || !name.chars().all(allowed) {
            let shown = name.escape_debug();
            return Err(ApiError::Invalid(format!(
                "`{shown}` is not a tenant name: use 1 to {TENANT_NAME_BYTES_MAX} of a-z 0-9 -"
            )));
        }
        let act = self.act(caller, caller.tenant, ("CreateTenant", name, "created"));
        if self.node.store.create_tenant(name, act).await?.is_none() {
            return Err(ApiError::Conflict(format!("there is a tenant `{name}` already")));
        }
        Ok(view_of_tenant(tenant(&*self.node.store, name).await?))
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// When the caller may not, or the database does not answer.
    pub async fn tenants(&self, caller: &Caller) -> Result<Vec<TenantView>, ApiError> {
        caller.check(Action::Tenants)?;
        let tenants = self.node.store.tenants().await?;
        Ok(tenants.into_iter().map(view_of_tenant).collect())
    }

    /// Suspends a tenant, so that its tokens are refused, or lifts the suspension. Its executions go on.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, it is `default`, or the database does not answer.
    pub async fn suspend_tenant(&self, caller: &Caller, name: &str, suspended: bool) -> Result<TenantView, ApiError> {
        caller.check(Action::Tenants)?;
        let found = standing_tenant(&*self.node.store, name).await?;
        if found.id == TenantId::DEFAULT {
            return Err(ApiError::Conflict(
                "the tenant `default` manages the others and cannot be suspended".to_owned(),
            ));
        }
        let outcome = if suspended { "suspended" } else { "suspension lifted" };
        let act = self.act(caller, caller.tenant, ("SuspendTenant", name, outcome));
        self.node.store.suspend_tenant(name, suspended, act).await?;
        self.identities.distrust();
        Ok(view_of_tenant(tenant(&*self.node.store, name).await?))
    }

    /// Deletes a suspended tenant with all that it has: its executions, open ones too, its components, tokens and audit.
    /// The engines do so in the background; the name is free when the tenant is no longer listed.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, it is `default` or not suspended, or the database does not answer.
    pub async fn delete_tenant(&self, caller: &Caller, name: &str) -> Result<TenantView, ApiError> {
        caller.check(Action::Tenants)?;
        let found = tenant(&*self.node.store, name).await?;
        if found.id == TenantId::DEFAULT {
            return Err(ApiError::Conflict("the tenant `default` manages the others and cannot be deleted".to_owned()));
        }
        let act = self.act(caller, caller.tenant, ("DeleteTenant", name, "begun"));
        let is_marked = found.deleted_at.is_some() || self.node.store.delete_tenant(name, act).await?;
        if !is_marked {
            return Err(ApiError::Conflict(format!(
                "the tenant `{name}` is not suspended: `cerebelum tenant suspend {name}` first; its deletion takes all that it has"
            )));
        }
        self.identities.distrust();
        tracing::info!(tenant = name, "the deletion of a tenant begins");
        Ok(view_of_tenant(tenant(&*self.node.store, name).await?))
    }

    /// A tenant, with its quotas and what it uses of them.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, or the database does not answer.
    pub async fn show_tenant(&self, caller: &Caller, name: &str) -> Result<TenantDetail, ApiError> {
        caller.check(Action::Tenants)?;
        let found = tenant(&*self.node.store, name).await?;
        let (quotas, components) = (Quotas::parse(&found.quotas), self.node.store.components(found.id).await?);
        // As much as can be counted in a moment.
        let open = self.node.store.count_open(found.id, quotas.max(Quota::OpenExecutions)).await?;
        let stored = self.node.store.stored_bytes().await?.remove(&found.id).unwrap_or(0);
        self.node.usages.full.note(found.id, stored, quotas.max(Quota::StoredBytes));
        let view = |quota: Quota| QuotaView {
            name: quota.name(),
            max: quotas.max(quota),
            is_set: quotas.is_set(quota),
            used: match quota {
                Quota::OpenExecutions => Some(open),
                Quota::Components => Some(components.len() as u64),
                Quota::ComponentBytes => Some(components.iter().map(|component| component.size).sum()),
                Quota::StoredBytes => Some(stored),
                Quota::CallsPerSecond | Quota::StartsPerSecond | Quota::EgressBytesPerMinute => None,
            },
        };
        let hosts = self.node.store.egress(found.id).await?.hosts;
        let hosts = hosts.map(|hosts| serde_json::from_str(&hosts).unwrap_or_default());
        Ok(TenantDetail { hosts, quotas: Quota::ALL.map(view).to_vec(), tenant: view_of_tenant(found) })
    }

    /// Sets quotas of a tenant by name; those without a number get their defaults back. Other engines on the database
    /// notice within five seconds.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant or quota, or the database does not answer.
    pub async fn set_quotas(
        &self,
        caller: &Caller,
        name: &str,
        changes: Vec<(String, Option<u64>)>,
    ) -> Result<TenantDetail, ApiError> {
        caller.check(Action::Tenants)?;
        let changes = changes.into_iter().map(|(quota, max)| Ok((Quota::named(&quota)?, max)));
        let changes = changes.collect::<Result<Vec<_>, ApiError>>()?;
        let told: Vec<_> = changes
            .iter()
            .map(|(quota, max)| format!("{}={}", quota.name(), max.map_or("default".to_owned(), |max| max.to_string())))
            .collect();
        let told = told.join(" ");
        for _ in 0..QUOTA_ATTEMPTS_MAX {
            let found = standing_tenant(&*self.node.store, name).await?;
            // Names that this engine does not know were set by another version and stay.
            let stored = serde_json::from_str::<BTreeMap<String, u64>>(&found.quotas);
            let mut stored = stored.map_err(|_| ApiError::Conflict("the tenant's stored quotas are damaged".into()))?;
            for (quota, max) in &changes {
                match max {
                    Some(max) => stored.insert(quota.name().to_owned(), *max),
                    None => stored.remove(quota.name()),
                };
            }
            let text = serde_json::to_string(&stored).expect("names and numbers");
            let act = self.act(caller, caller.tenant, ("SetQuotas", name, &told));
            if self.node.store.set_quotas(name, (&found.quotas, &text), act).await? {
                self.node.usages.note(found.id, Quotas::parse(&text));
                return self.show_tenant(caller, name).await;
            }
        }
        Err(ApiError::Unavailable("the tenant's quotas are changed by others all the time: try again".to_owned()))
    }

    /// Creates a token. The first one closes an engine that was open to its machine.
    ///
    /// # Errors
    /// When the caller may not, the request is not valid, the tenant has too many tokens, or the database does not
    /// answer.
    pub async fn create_token(&self, caller: &Caller, request: TokenRequest) -> Result<CreatedToken, ApiError> {
        let of = self.tenant_of(caller, Action::Tokens, request.tenant.as_deref()).await?;
        let is_first = self.is_open_now().await?;
        if !is_first && caller.token.is_none() {
            return Err(ApiError::Unauthenticated("another token came first: the engine is closed now".to_owned()));
        }
        if is_first && (of.id != TenantId::DEFAULT || request.role != Role::Admin.as_str()) {
            return Err(ApiError::Conflict(
                "the first token closes the engine to clients without one: create it for an admin of the tenant `default`"
                    .to_owned(),
            ));
        }
        let _turn = self.node.turns.writes.next(caller.tenant).await;
        let created = create(&*self.node.store, of, &request, (self.node.clock.now(), caller.actor())).await?;
        self.identities.note_tokens(true, self.node.runtime.boot_ms());
        tracing::info!(
            token = created.view.id,
            tenant = created.view.tenant,
            role = created.view.role,
            "token created"
        );
        Ok(created)
    }

    /// The tokens of a tenant (by default the caller's), the newest first.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, or the database does not answer.
    pub async fn tokens(&self, caller: &Caller, of: Option<&str>) -> Result<Vec<TokenView>, ApiError> {
        let of = self.tenant_of(caller, Action::Tokens, of).await?;
        let tokens = self.node.store.tokens(of.id).await?;
        Ok(tokens.into_iter().map(|token| view_of_token(token, &of.name)).collect())
    }

    /// Revokes a token of a tenant (by default the caller's). Every engine refuses it within five seconds.
    ///
    /// # Errors
    /// When the caller may not, there is no such token, or the database does not answer.
    pub async fn revoke_token(&self, caller: &Caller, of: Option<&str>, id: &str) -> Result<(), ApiError> {
        let of = self.tenant_of(caller, Action::Tokens, of).await?;
        self.keeps_an_admin(&of, id).await?;
        let act = self.act(caller, of.id, ("RevokeToken", id, "revoked"));
        let _turn = self.node.turns.writes.next(caller.tenant).await;
        if !self.node.store.revoke_token(of.id, id, act).await? {
            let shown = id.escape_debug();
            return Err(ApiError::NotFound(format!(
                "the tenant `{}` has no valid token `{shown}`: see `cerebelum token list`",
                of.name
            )));
        }
        self.identities.distrust();
        tracing::info!(token = id, tenant = of.name, "token revoked");
        Ok(())
    }

    /// Refuses the end of the last token with which the engine can be managed.
    async fn keeps_an_admin(&self, of: &Tenant, id: &str) -> Result<(), ApiError> {
        if of.id != TenantId::DEFAULT {
            return Ok(());
        }
        let now = self.node.clock.now();
        let is_valid = |token: &Token| token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end);
        let mut admins = self.node.store.tokens(of.id).await?;
        admins.retain(|token| is_valid(token) && token.role == Role::Admin.as_str());
        match admins.as_slice() {
            [last] if last.id == id => Err(ApiError::Conflict(format!(
                "`{id}` is the last token with which this engine can be managed: create another one first, with \
                 `cerebelum token create --role admin --name NAME`"
            ))),
            _ => Ok(()),
        }
    }

    /// What the caller does to this tenant, for the audit.
    pub(crate) fn act(
        &self,
        caller: &Caller,
        tenant: TenantId,
        (operation, object, outcome): (&'static str, &str, &str),
    ) -> Option<Act> {
        self.of(caller).act(operation, object, outcome).map(|act| Act { tenant, ..act })
    }

    /// The tenant with this name, if the caller may do this there; by default the caller's own.
    pub(crate) async fn tenant_of(
        &self,
        caller: &Caller,
        action: Action,
        name: Option<&str>,
    ) -> Result<Tenant, ApiError> {
        caller.check(action)?;
        let name = name.unwrap_or(&caller.tenant_name);
        if name != caller.tenant_name {
            caller.check(Action::Tenants)?;
        }
        standing_tenant(&*self.node.store, name).await
    }
}

/// Creates a token in a database that no engine has to serve: the first one, or one for an admin who lost theirs.
///
/// # Errors
/// When the database cannot be opened (a SQLite file that an engine uses, for instance), or the request is not valid.
pub async fn create_token_in(database: &str, request: &TokenRequest) -> Result<CreatedToken, ApiError> {
    let missing = database.strip_prefix("sqlite:").filter(|file| !std::path::Path::new(file).exists());
    if let Some(file) = missing {
        return Err(ApiError::NotFound(format!(
            "there is no database {file}: name the folder or the file of an engine"
        )));
    }
    let store = cerebelum_store::open_for(database, OFFLINE_LEASE).await.map_err(|error| match error {
        StoreError::Unavailable(_) => error.into(),
        other => ApiError::Conflict(format!("{other}; a running engine creates tokens without --data and --database")),
    })?;
    let of = standing_tenant(&*store, request.tenant.as_deref().unwrap_or("default")).await?;
    let now = store.now().await?;
    create(&*store, of, request, (now, Arc::default())).await
}

async fn create(
    store: &dyn Store,
    of: Tenant,
    request: &TokenRequest,
    (now, actor): (Timestamp, Arc<Actor>),
) -> Result<CreatedToken, ApiError> {
    let role: Role = request.role.parse()?;
    if !is_printable(&request.name) || request.name.len() > TOKEN_NAME_BYTES_MAX {
        return Err(ApiError::Invalid(format!(
            "a token needs the name of its owner: 1 to {TOKEN_NAME_BYTES_MAX} bytes that can be seen"
        )));
    }
    let credential = Credential::random();
    let token = Token {
        id: credential.id.clone(),
        tenant: of.id,
        role: role.as_str().to_owned(),
        name: request.name.clone(),
        secret_digest: credential.digest(),
        created_at: now,
        expires_at: request.expires_in_ms.map(|ms| now.plus(ms)),
        revoked_at: None,
        last_used_at: None,
    };
    let act = Act {
        tenant: of.id,
        chance: rand::random(),
        actor,
        operation: "CreateToken",
        object: token.id.clone(),
        outcome: format!("{role} {}", token.name),
    };
    if !store.create_token(token.clone(), TOKENS_MAX, Some(act)).await? {
        return Err(ApiError::Conflict(format!(
            "tokens-max: the tenant `{}` has {TOKENS_MAX} tokens: revoke some that are not used",
            of.name
        )));
    }
    Ok(CreatedToken { view: view_of_token(token, &of.name), secret: credential.reveal() })
}

/// Whether a name can be seen. Characters that are not seen, or that turn the direction of writing, would let one name
/// look like another.
pub(crate) fn is_printable(name: &str) -> bool {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    !name.trim().is_empty() && !name.chars().any(is_hidden)
}

async fn tenant(store: &dyn Store, name: &str) -> Result<Tenant, ApiError> {
    store.find_tenant(name).await?.ok_or_else(|| no_tenant(name))
}

pub(crate) fn no_tenant(name: &str) -> ApiError {
    ApiError::NotFound(format!("there is no tenant `{}`: see `cerebelum tenant list`", name.escape_debug()))
}

/// The same, unless it is being deleted.
async fn standing_tenant(store: &dyn Store, name: &str) -> Result<Tenant, ApiError> {
    let found = tenant(store, name).await?;
    match found.deleted_at {
        None => Ok(found),
        Some(_) => Err(ApiError::Conflict(format!("the tenant `{name}` is being deleted"))),
    }
}

fn view_of_tenant(tenant: Tenant) -> TenantView {
    let Tenant { id, name, created_at, suspended_at, deleted_at, .. } = tenant;
    TenantView { number: id.0, name, created_at, suspended_at, deleted_at }
}

fn view_of_token(token: Token, tenant: &str) -> TokenView {
    TokenView {
        id: token.id,
        tenant: tenant.to_owned(),
        role: token.role,
        name: token.name,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        last_used_at: token.last_used_at,
    }
}
