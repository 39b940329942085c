//! Who calls: a credential becomes a caller, and one table says what a role may do.

mod scrapes;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallerSpan, Digest, Timestamp};
use cerebelum_store::{Actor, TenantId, Token};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::api::ApiError;
use crate::engine::Engine;
use crate::quotas::Quotas;
use crate::throttle::Throttle;

/// How long the engine goes by what it read of a token. A revoked token is refused after this time at the latest.
const TRUST_MS: u64 = 4_000;
/// The most tokens that are remembered at once.
const REMEMBERED_MAX: usize = 10_000;
/// The most unknown tokens that are looked up at once: guesses keep no more of the database busy.
const TOKEN_LOOKUPS_MAX: usize = 2;
/// How many links are looked up at once. Guesses keep no more of the database busy.
const LINK_LOOKUPS_MAX: usize = 2;
/// How long a token may wait to be looked up.
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(2);
/// A token's last use is noted to the minute.
const USE_MS: u64 = 60_000;
/// The bytes of a token's public part, which become two hex digits each.
const ID_BYTES: usize = 6;
/// The bytes of a token's secret part.
const SECRET_BYTES: usize = 32;

/// What a caller may do within its tenant, see [`may`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, tokens included. An admin of the tenant `default` manages the tenants of the engine as well.
    Admin,
    /// Uploads components, and runs executions.
    Developer,
    /// Runs executions, and answers questions.
    Operator,
    /// Answers questions.
    Approver,
    /// Looks.
    Viewer,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at components, executions, histories, logs and questions.
    Read,
    /// Answer a question.
    Decide,
    /// Start, signal, cancel, terminate, pause and resume executions.
    Run,
    /// Delete executions that have ended.
    Delete,
    /// Upload and remove components.
    Develop,
    /// Grant a component what it asks for.
    Accept,
    /// Create, list and revoke tokens of the tenant.
    Tokens,
    /// Create, list, suspend and delete tenants, and set what they may. Only admins of the tenant `default`.
    Tenants,
    /// Set, list and delete secrets of the tenant, and renew their key.
    Secrets,
    /// Read the audit of the tenant.
    Audit,
    /// Read the metrics of the whole engine. Only callers of the tenant `default`.
    Metrics,
}

/// Whether a role allows an action. This is the whole table of roles.
#[must_use]
pub const fn may(role: Role, action: Action) -> bool {
    match role {
        Role::Admin => true,
        Role::Developer => matches!(action, Action::Read | Action::Run | Action::Develop | Action::Metrics),
        Role::Operator => {
            matches!(action, Action::Read | Action::Decide | Action::Run | Action::Delete | Action::Metrics)
        }
        Role::Approver => matches!(action, Action::Read | Action::Decide),
        Role::Viewer => matches!(action, Action::Read | Action::Metrics),
    }
}

impl Role {
    /// All roles, the mightiest first.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Developer, Self::Operator, Self::Approver, Self::Viewer];

    /// The role in a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ApiError;

    fn from_str(word: &str) -> Result<Self, ApiError> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            ApiError::Invalid(format!("`{}` is not a role: use one of {all}", word.escape_debug()))
        })
    }
}

/// The person or program that makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant for which the caller acts.
    pub tenant: TenantId,
    /// Its name.
    pub tenant_name: String,
    /// The caller's role.
    pub role: Role,
    /// The caller's name, which answers to questions carry. None if the engine has no tokens and is open to this machine.
    pub name: Option<String>,
    /// The public part of the caller's token.
    pub token: Option<String>,
    /// The address from which the request came, as far as the engine knows it.
    pub address: Option<IpAddr>,
    /// The span from which the request came.
    pub span: Option<Arc<CallerSpan>>,
}

impl Caller {
    /// The caller of an engine that has no tokens.
    #[must_use]
    pub fn of_open_engine() -> Self {
        let tenant_name = "default".to_owned();
        let (name, token, address, span) = (None, None, None, None);
        Self { tenant: TenantId::DEFAULT, tenant_name, role: Role::Admin, name, token, address, span }
    }

    /// The caller as the audit names it.
    pub(crate) fn actor(&self) -> Arc<Actor> {
        let address = self.address.map(|address| address.to_canonical().to_string());
        Arc::new(Actor { name: self.name.clone(), token: self.token.clone(), address })
    }

    /// Checks that the caller may do this.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`], with what is missing.
    pub fn check(&self, action: Action) -> Result<(), ApiError> {
        let of_server = matches!(action, Action::Tenants | Action::Metrics);
        if of_server && self.tenant != TenantId::DEFAULT {
            let why = "this concerns the whole engine: use a token of the tenant `default`";
            return Err(ApiError::Forbidden(why.to_owned()));
        }
        if may(self.role, action) {
            return Ok(());
        }
        let able = Role::ALL.into_iter().filter(|role| may(*role, action)).map(Role::as_str);
        let able = able.collect::<Vec<_>>().join(" or ");
        Err(ApiError::Forbidden(format!(
            "the role {} does not allow this: use a token with the role {able}",
            self.role
        )))
    }
}

/// A token as its owner has it: `cb_ID_SECRET`.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) id: String,
    secret: String,
}

impl Credential {
    /// A new token.
    pub(crate) fn random() -> Self {
        let id: [u8; ID_BYTES] = rand::random();
        let secret: [u8; SECRET_BYTES] = rand::random();
        Self { id: hex::encode(id), secret: hex::encode(secret) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("cb_")?.split_once('_')?;
        let is_hex = |text: &str, bytes: usize| {
            text.len() == 2 * bytes && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        };
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES))
            .then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// What is stored of the secret. It has 256 bits of chance, so that it cannot be found from its digest.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }

    /// The text that is shown once.
    pub(crate) fn reveal(&self) -> String {
        format!("cb_{}_{}", self.id, self.secret)
    }
}

/// A token as it was last read.
struct Known {
    digest: Digest,
    caller: Caller,
    expires_at: Option<Timestamp>,
    /// None if it must be read again.
    read_ms: Option<u64>,
}

/// The tokens that were seen lately, and whether there are any.
pub(crate) struct Identities {
    /// Lines in the log about refusals, by their reason.
    pub(crate) unauthenticated: Throttle,
    pub(crate) forbidden: Throttle,
    pub(crate) beyond_quota: Throttle,
    known: Mutex<HashMap<String, Known>>,
    /// Whether there was a token, and when that was read. Once there was one, there always was.
    has_tokens: Mutex<Option<(bool, u64)>>,
    /// For links.
    pub(crate) link_lookups: Semaphore,
    /// For tokens that were never seen to be valid.
    lookups: Semaphore,
    /// For tokens that were valid before, and for the question whether there are any. No guess waits here.
    refreshes: Semaphore,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            unauthenticated: Throttle::default(),
            forbidden: Throttle::default(),
            beyond_quota: Throttle::default(),
            known: Mutex::default(),
            has_tokens: Mutex::default(),
            link_lookups: Semaphore::new(LINK_LOOKUPS_MAX),
            lookups: Semaphore::new(TOKEN_LOOKUPS_MAX),
            refreshes: Semaphore::new(1),
        }
    }
}

impl Identities {
    /// Tokens are read again before they are trusted: this engine has changed some.
    pub(crate) fn distrust(&self) {
        self.known.lock().values_mut().for_each(|known| known.read_ms = None);
    }

    /// Notes whether there ever was a token. Once there was one, it stays so, whatever an earlier read says.
    pub(crate) fn note_tokens(&self, has_tokens: bool, read_ms: u64) {
        let mut noted = self.has_tokens.lock();
        if !matches!(*noted, Some((true, _))) {
            *noted = Some((has_tokens, read_ms));
        }
    }
}

impl Engine {
    /// The caller with this token. Without a token, an engine that never had one takes every client for an admin of
    /// the tenant `default`.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] if the token is missing, unknown, expired or revoked; [`ApiError::Forbidden`] if its
    /// tenant is suspended; [`ApiError::Unavailable`] if the database does not answer.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Caller, ApiError> {
        if self.is_open().await? {
            return Ok(Caller::of_open_engine());
        }
        let Some(token) = token else {
            let how = "this engine wants a token: name one with --token or CEREBELUM_TOKEN, or run `cerebelum login`";
            return Err(ApiError::Unauthenticated(how.to_owned()));
        };
        let refused = || ApiError::Unauthenticated("the token is unknown, expired or revoked".to_owned());
        let credential = Credential::parse(token).ok_or_else(refused)?;
        if let Some(caller) = self.remembered(&credential) {
            return Ok(caller);
        }
        self.look_up(&credential).await?.ok_or_else(refused)
    }

    /// Whether this engine never had a token, so that every client that reaches it is an admin. An engine that other
    /// machines reach is never open.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_open(&self) -> Result<bool, ApiError> {
        if self.node.config.closed {
            return Ok(false);
        }
        if let Some(is_open) = self.remembered_open() {
            return Ok(is_open);
        }
        let _one = self.identities.refreshes.acquire().await;
        // Another request may have read it meanwhile.
        match self.remembered_open() {
            Some(is_open) => Ok(is_open),
            None => self.is_open_now().await,
        }
    }

    /// Whether there ever was a token.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_tokens(&self) -> Result<bool, ApiError> {
        Ok(!self.is_open_now().await?)
    }

    /// Whether there never was a token, asked of the database.
    pub(crate) async fn is_open_now(&self) -> Result<bool, ApiError> {
        let read_ms = self.node.runtime.boot_ms();
        let has_tokens = self.node.store.has_tokens().await?;
        if !has_tokens {
            let tenants = self.node.store.tenants().await?;
            for first in tenants.iter().filter(|tenant| tenant.id == TenantId::DEFAULT) {
                self.node.usages.note(first.id, Quotas::parse(&first.quotas));
            }
        }
        self.identities.note_tokens(has_tokens, read_ms);
        Ok(!has_tokens)
    }

    fn remembered_open(&self) -> Option<bool> {
        let now_ms = self.node.runtime.boot_ms();
        match *self.identities.has_tokens.lock() {
            Some((true, _)) => Some(false),
            Some((false, read_ms)) if now_ms < read_ms + TRUST_MS => Some(true),
            _ => None,
        }
    }

    fn remembered(&self, credential: &Credential) -> Option<Caller> {
        let (now, now_ms) = (self.node.clock.now(), self.node.runtime.boot_ms());
        let known = self.identities.known.lock();
        let known = known
            .get(&credential.id)
            .filter(|known| known.read_ms.is_some_and(|read_ms| now_ms < read_ms + TRUST_MS))?;
        let is_valid = is_of(credential, known) && known.expires_at.is_none_or(|at| now < at);
        is_valid.then(|| known.caller.clone())
    }

    /// Reads a token from the store. Returns `None` if it must be refused.
    async fn look_up(&self, credential: &Credential) -> Result<Option<Caller>, ApiError> {
        let was_valid = self.identities.known.lock().get(&credential.id).is_some_and(|known| is_of(credential, known));
        let line = if was_valid { &self.identities.refreshes } else { &self.identities.lookups };
        let Some(_one) = self.node.runtime.within(LOOKUP_WAIT_MAX, line.acquire()).await else {
            return Err(ApiError::Unavailable("too many tokens are looked up at the moment: try again".to_owned()));
        };
        // Another request may have read it meanwhile.
        if let Some(caller) = self.remembered(credential) {
            return Ok(Some(caller));
        }
        let read_ms = self.node.runtime.boot_ms();
        let found = self.node.store.find_token(&credential.id).await?;
        let Some((token, tenant)) = found else {
            self.identities.known.lock().remove(&credential.id);
            return Ok(None);
        };
        let is_over = token.expires_at.is_some_and(|at| self.node.clock.now() >= at) || token.revoked_at.is_some();
        if is_over || tenant.suspended_at.is_some() {
            self.identities.known.lock().remove(&credential.id);
        }
        if is_over || !is_same(&token.secret_digest, &credential.digest()) {
            return Ok(None);
        }
        if tenant.suspended_at.is_some() {
            return Err(ApiError::Forbidden(format!("the tenant `{}` is suspended", tenant.name)));
        }
        self.node.usages.note(tenant.id, Quotas::parse(&tenant.quotas));
        self.note_use(&token);
        let role = token
            .role
            .parse()
            .map_err(|_| ApiError::Forbidden(format!("this engine does not know the token's role `{}`", token.role)))?;
        let caller = Caller {
            tenant: tenant.id,
            tenant_name: tenant.name,
            role,
            name: Some(token.name),
            token: Some(token.id.clone()),
            address: None,
            span: None,
        };
        let mut known = self.identities.known.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        let entry = Known {
            digest: token.secret_digest,
            caller: caller.clone(),
            expires_at: token.expires_at,
            read_ms: Some(read_ms),
        };
        known.insert(token.id, entry);
        Ok(Some(caller))
    }

    /// Notes that a token is used, in the background: a database that cannot write must not keep callers out.
    fn note_use(&self, token: &Token) {
        if token.last_used_at.is_some_and(|at| self.node.clock.now() < at.plus(USE_MS)) {
            return;
        }
        let (store, id) = (self.node.store.clone(), token.id.clone());
        self.node.runtime.spawn(Box::pin(async move {
            if let Err(error) = store.note_use(&id).await {
                tracing::debug!(%error, token = id, "cannot note the use of a token");
            }
        }));
    }
}

/// Whether the credential has the secret of this token.
fn is_of(credential: &Credential, known: &Known) -> bool {
    is_same(&known.digest, &credential.digest())
}

/// Compares in a time that does not depend on where two digests differ.
fn is_same(a: &Digest, b: &Digest) -> bool {
    let (a, b) = (a.as_str().as_bytes(), b.as_str().as_bytes());
    a.len() == b.len() && std::iter::zip(a, b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_shown_and_in_no_other_form() {
        let token = Credential::random();
        let shown = token.reveal();
        assert_eq!(shown.len(), 3 + 12 + 1 + 64);
        let read = Credential::parse(&shown).unwrap();
        assert!(read.id == token.id && is_same(&read.digest(), &token.digest()));
        let other = Credential::random();
        assert!(other.id != token.id && !is_same(&other.digest(), &token.digest()));
        for wrong in ["", "cb_", "cb__", &shown[1..], &shown[..79], &shown.to_uppercase(), &format!("{shown}0")] {
            assert!(Credential::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn roles_are_read_by_their_names_and_a_refusal_names_who_may() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        }
        assert!(
            "root".parse::<Role>().unwrap_err().to_string().contains("admin, developer, operator, approver, viewer")
        );
        let viewer = Caller { role: Role::Viewer, ..Caller::of_open_engine() };
        let refused = viewer.check(Action::Delete).unwrap_err().to_string();
        assert_eq!(refused, "the role viewer does not allow this: use a token with the role admin or operator");
        let elsewhere = Caller { tenant: TenantId(7), ..Caller::of_open_engine() };
        assert!(elsewhere.check(Action::Tokens).is_ok());
        assert!(elsewhere.check(Action::Tenants).is_err() && elsewhere.check(Action::Metrics).is_err());
    }
}
