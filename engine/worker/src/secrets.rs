//! Manages the secrets of tenants, and the hosts that the operator allows to them.

use cerebelum_history::{Json, Timestamp};
use cerebelum_store::{Egress, SecretChange, StoredSecret, Tenant};

use crate::api::ApiError;
use crate::engine::Engine;
use crate::fetch::is_host;
use crate::identity::{Action, Caller};
use crate::tenancy::{TenantDetail, no_tenant};
use crate::vault::Vault;

/// The most secrets of a tenant.
const SECRETS_MAX: usize = 200;
/// The longest name of a secret, in bytes.
const SECRET_NAME_BYTES_MAX: usize = 64;
/// The longest value of a secret, in bytes. A header takes no more.
const SECRET_BYTES_MAX: usize = 16 << 10;
/// The most hosts of a secret, and of a tenant.
const HOSTS_MAX: usize = 100;
/// How often secrets are read again after another request has changed them meanwhile.
const ATTEMPTS_MAX: usize = 20;

/// A secret without its value, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// The hosts to which it may go.
    pub hosts: Vec<String>,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub changed_at: Timestamp,
    /// Whether this engine has the key to open it.
    pub is_open: bool,
}

impl Engine {
    /// Sets a secret of a tenant (by default the caller's), which requests of its steps may contain as `{{secret:NAME}}` if
    /// they go to one of these hosts. Every engine goes by it within five seconds.
    ///
    /// # Errors
    /// When the caller may not, the secret is not valid, the tenant has too many, the engine has no key for secrets, or the
    /// database does not answer.
    pub async fn set_secret(
        &self,
        caller: &Caller,
        of: Option<&str>,
        (name, value): (&str, &str),
        hosts: &[String],
    ) -> Result<SecretView, ApiError> {
        let of = self.tenant_of(caller, Action::Secrets, of).await?;
        check_secret(name, value, hosts)?;
        let hosts = Json::of(&hosts).to_string();
        let change = |vault: &Vault, stored: &Egress| {
            let is_new = !stored.secrets.iter().any(|secret| secret.name == name);
            if is_new && stored.secrets.len() >= SECRETS_MAX {
                return Err(ApiError::Conflict(format!(
                    "secrets-max: the tenant has {SECRETS_MAX} secrets: delete some that are not used"
                )));
            }
            let (key, first) = match vault.key_of(of.id, stored) {
                Some(key) => (key, None),
                // A lost key is of no use any more once no other secret is sealed with it.
                None if stored.secrets.iter().any(|secret| secret.name != name) => return Err(unopened(vault)),
                None => {
                    let (key, sealed) = vault.new_key(of.id).ok_or_else(|| unopened(vault))?;
                    (key, Some(sealed))
                }
            };
            Ok(SecretChange::Put(key.seal(name, &hosts, value), first))
        };
        self.change_secrets(caller, &of, ("SetSecret", name, &hosts), change).await?;
        let all = self.secrets(caller, Some(&of.name)).await?;
        let set = all.into_iter().find(|secret| secret.name == name);
        set.ok_or_else(|| ApiError::Unavailable(format!("the secret `{name}` was deleted meanwhile: set it again")))
    }

    /// The secrets of a tenant (by default the caller's) without their values, by name.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, or the database does not answer.
    pub async fn secrets(&self, caller: &Caller, of: Option<&str>) -> Result<Vec<SecretView>, ApiError> {
        let of = self.tenant_of(caller, Action::Secrets, of).await?;
        let stored = self.node.store.egress(of.id).await?;
        let key = self.vault.key_of(of.id, &stored);
        let view = |secret: StoredSecret| SecretView {
            is_open: key.as_ref().is_some_and(|key| key.open(&secret).is_some()),
            hosts: serde_json::from_str(&secret.hosts).unwrap_or_default(),
            name: secret.name,
            created_at: secret.created_at,
            changed_at: secret.changed_at,
        };
        Ok(stored.secrets.into_iter().map(view).collect())
    }

    /// Deletes a secret of a tenant (by default the caller's). Every engine goes by it within five seconds.
    ///
    /// # Errors
    /// When the caller may not, there is no such secret, or the database does not answer.
    pub async fn delete_secret(&self, caller: &Caller, of: Option<&str>, name: &str) -> Result<(), ApiError> {
        let of = self.tenant_of(caller, Action::Secrets, of).await?;
        let change = |_: &Vault, stored: &Egress| match stored.secrets.iter().any(|secret| secret.name == name) {
            true => Ok(SecretChange::Delete(name.to_owned())),
            false => {
                let (tenant, shown) = (&of.name, name.escape_debug());
                Err(ApiError::NotFound(format!(
                    "the tenant `{tenant}` has no secret `{shown}`: see `cerebelum secret list`"
                )))
            }
        };
        self.change_secrets(caller, &of, ("DeleteSecret", name, "deleted"), change).await
    }

    /// Seals all secrets of a tenant (by default the caller's) with a new key, and that with the first of the engine's
    /// keys. Returns how many secrets there are.
    ///
    /// # Errors
    /// When the caller may not, the engine lacks a key, or the database does not answer.
    pub async fn rotate_secrets_key(&self, caller: &Caller, of: Option<&str>) -> Result<usize, ApiError> {
        let of = self.tenant_of(caller, Action::Secrets, of).await?;
        let mut count = 0;
        let change = |vault: &Vault, stored: &Egress| {
            let (new, sealed_key) = vault.new_key(of.id).ok_or_else(|| unopened(vault))?;
            let old = vault.key_of(of.id, stored);
            let renew = |secret: &StoredSecret| {
                let value = old.as_ref().and_then(|old| old.open(secret)).ok_or_else(|| unopened(vault))?;
                Ok(new.seal(&secret.name, &secret.hosts, &value))
            };
            let secrets: Vec<_> = stored.secrets.iter().map(renew).collect::<Result<_, ApiError>>()?;
            count = secrets.len();
            Ok(SecretChange::Replace(sealed_key, secrets))
        };
        self.change_secrets(caller, &of, ("RotateSecretsKey", &of.name, "rotated"), change).await?;
        Ok(count)
    }

    /// Sets the hosts that requests of a tenant's steps may reach; none for what the engine's configuration says. Every
    /// engine goes by it within five seconds.
    ///
    /// # Errors
    /// When the caller may not, there is no such tenant, a host is not valid, or the database does not answer.
    pub async fn set_hosts(
        &self,
        caller: &Caller,
        name: &str,
        hosts: Option<Vec<String>>,
    ) -> Result<TenantDetail, ApiError> {
        caller.check(Action::Tenants)?;
        if let Some(hosts) = &hosts {
            check_hosts(hosts, |host| host == "*" || is_host(host))?;
        }
        let text = hosts.map(|hosts| Json::of(&hosts).to_string());
        let act = self.act(caller, caller.tenant, ("SetHosts", name, text.as_deref().unwrap_or("default")));
        if !self.node.store.set_hosts(name, text, act).await? {
            return Err(no_tenant(name));
        }
        self.show_tenant(caller, name).await
    }

    /// Changes the secrets of a tenant as they are at this moment.
    async fn change_secrets(
        &self,
        caller: &Caller,
        of: &Tenant,
        what: (&'static str, &str, &str),
        mut change: impl FnMut(&Vault, &Egress) -> Result<SecretChange, ApiError>,
    ) -> Result<(), ApiError> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.node.store.egress(of.id).await?;
            let change = change(&self.vault, &stored)?;
            let act = self.act(caller, of.id, what);
            let _turn = self.node.turns.writes.next(caller.tenant).await;
            let changed = self.node.store.change_secrets(of.id, stored.version, change, act);
            if changed.await? {
                return Ok(());
            }
        }
        Err(ApiError::Unavailable("the tenant's secrets are changed by others all the time: try again".to_owned()))
    }
}

fn unopened(vault: &Vault) -> ApiError {
    ApiError::Conflict(match vault.is_empty() {
        true => {
            "this engine has no key for secrets: put the output of `openssl rand -hex 32` into a file that only the \
                 engines can read, and start all of them with --secrets-key FILE"
                .to_owned()
        }
        false => "the secrets of this tenant are sealed with a key that this engine lacks: add it to the file of \
                  --secrets-key"
            .to_owned(),
    })
}

fn check_secret(name: &str, value: &str, hosts: &[String]) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // A path of REST has the last one, and a path of nothing but dots leads elsewhere.
    let is_path = name.chars().all(|c| c == '.') || name == "rotate-key";
    if name.len() > SECRET_NAME_BYTES_MAX || !name.chars().all(allowed) || is_path {
        let shown = name.escape_debug();
        return Err(ApiError::Invalid(format!(
            "`{shown}` is not a name of a secret: use 1 to {SECRET_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -"
        )));
    }
    if value.is_empty() || value.len() > SECRET_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(ApiError::Invalid(format!(
            "the value of a secret has 1 to {SECRET_BYTES_MAX} bytes and no control characters"
        )));
    }
    if hosts.is_empty() {
        return Err(ApiError::Invalid(
            "a secret needs the hosts to which it may go, such as api.example.com".to_owned(),
        ));
    }
    check_hosts(hosts, is_host)
}

fn check_hosts(hosts: &[String], is_valid: impl Fn(&str) -> bool) -> Result<(), ApiError> {
    if hosts.len() > HOSTS_MAX {
        return Err(ApiError::Invalid(format!("there are {} hosts, at most {HOSTS_MAX} are allowed", hosts.len())));
    }
    match hosts.iter().find(|host| !is_valid(host)) {
        None => Ok(()),
        Some(wrong) => Err(ApiError::Invalid(format!(
            "`{}` is not a host: write a name or an address, and a port if it is not any, such as api.example.com:443",
            wrong.chars().take(SECRET_NAME_BYTES_MAX).collect::<String>().escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_secret_is_refused_without_its_value() {
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let good = hosts(&["api.example.com", "10.0.0.7:8080", "[::1]:443", "localhost"]);
        assert!(check_secret("STRIPE_KEY", "sk_live_1", &good).is_ok());
        let refused = |name: &str, value: &str, hosts: &[String]| {
            let why = check_secret(name, value, hosts).unwrap_err().to_string();
            assert!(!why.contains("hush") && !why.contains('\n'), "{why}");
            why
        };
        for name in ["", "A B", "a}}b", "ü", "rotate-key", &"n".repeat(65)] {
            assert!(refused(name, "hush", &good).contains("name of a secret"));
        }
        for value in ["", "hush\n", "hush\0", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert!(refused("A", value, &good).contains("control characters"));
        }
        assert!(refused("A", "hush", &[]).contains("needs the hosts"));
        let wrong = [
            "",
            "*",
            "https://a",
            "a/b",
            "a b",
            "{{secret:A}}",
            ":80",
            "a:0",
            "a:b",
            "u@a",
            "127.1",
            "[0:0:0:0:0:0:0:1]:80",
            "ü.de",
        ];
        for host in wrong.into_iter().chain([&*"a".repeat(254)]) {
            assert!(refused("A", "hush", &hosts(&[host])).contains("is not a host"), "{host}");
        }
        assert!(refused("A", "hush", &vec!["a".to_owned(); 101]).contains("at most 100"));
    }
}
