//! The secrets that requests of a tenant may contain, and what answers must not repeat.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind, planted};
use cerebelum_store::{Egress, TenantId};
use memchr::memmem;
use percent_encoding::utf8_percent_encode;

use super::outgoing::{Destination, PATH, Piece, QUERY, pieces};
use super::permits::may_receive;
use crate::vault::Vault;

/// What stands in an answer in place of a secret. No secret that is looked for is shorter, so that no answer grows.
const REMOVED: &str = "[secret]";
/// A value of fewer bytes is not looked for in answers: it could be there by chance.
const ECHO_BYTES_MIN: usize = REMOVED.len();

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// None if this engine cannot open it.
    value: Option<String>,
    /// The hosts to which it may go; none for wherever its component may.
    hosts: Option<Vec<String>>,
}

/// The secrets of a tenant, by name.
#[derive(Clone, Default)]
pub(super) struct Available(BTreeMap<String, Secret>);

impl Available {
    /// The secrets of the engine's configuration.
    pub(super) fn configured(secrets: &BTreeMap<String, String>) -> Self {
        let secret = |value: &String| Secret { value: Some(value.clone()), hosts: None };
        Self(secrets.iter().map(|(name, value)| (name.clone(), secret(value))).collect())
    }

    /// The same, and those that are stored for the tenant, as far as this engine can open them.
    pub(super) fn with_stored(mut self, vault: &Vault, tenant: TenantId, stored: &Egress) -> Self {
        let key = vault.key_of(tenant, stored);
        for secret in &stored.secrets {
            let value = key.as_ref().and_then(|key| key.open(secret));
            if value.is_none() {
                tracing::warn!(tenant = tenant.0, name = secret.name, "a stored secret cannot be opened");
            }
            let hosts = serde_json::from_str(&secret.hosts).unwrap_or_default();
            self.0.insert(secret.name.clone(), Secret { value, hosts: Some(hosts) });
        }
        self
    }

    /// The value of a secret, for a request to this host.
    ///
    /// # Errors
    /// When there is no such secret, it must not go there, or this engine cannot open it.
    pub(super) fn get(&self, (tenant, name): (TenantId, &str), to: Destination<'_>) -> Result<&str, Failure> {
        let shown = super::outgoing::quoted(name);
        let refused = |what: String| Err(Failure::new(kind::NOT_GRANTED, what));
        let Some(secret) = self.0.get(name) else {
            let or = if tenant == TenantId::DEFAULT {
                ", CEREBELUM_SECRET_<NAME> or [secrets] in the configuration"
            } else {
                ""
            };
            return refused(format!("there is no secret {shown}: an admin sets it with `cerebelum secret set`{or}"));
        };
        let Destination { host, port, is_https } = to;
        let is_elsewhere = secret.hosts.as_ref().is_some_and(|hosts| !may_receive(hosts, (host, port), is_https));
        if is_elsewhere && !planted("secret-goes-anywhere") {
            return refused(format!(
                "the secret {shown} may not go to {host}:{port}: an admin names its hosts with `cerebelum secret set`, and without a port only https on 443 is meant"
            ));
        }
        secret.value.as_deref().ok_or_else(|| {
            let why = format!("the secret {shown} cannot be opened: the engine lacks the key with which it was sealed");
            Failure::retryable(kind::NOT_GRANTED, why)
        })
    }

    /// What the answer to a request with these secrets must not repeat. It is asked for once the request may leave: then
    /// its secrets are few and short.
    pub(super) fn echoes(&self, named: &BTreeSet<String>) -> Echoes {
        // The longest first: a shorter one may be a part of it.
        let mut echoes = BTreeSet::new();
        for name in named {
            let value = self.0.get(name).and_then(|secret| secret.value.as_deref());
            let Some(value) = value.filter(|value| value.len() >= ECHO_BYTES_MIN) else { continue };
            let forms = [value.to_owned(), encoded(value, PATH), encoded(value, QUERY)];
            echoes.extend(forms.into_iter().map(|form| (Reverse(form.len()), form)));
        }
        Echoes(echoes.into_iter().map(|(_, form)| form).collect())
    }
}

/// The names of the secrets in a request.
pub(super) fn named(request: &HttpRequest) -> BTreeSet<String> {
    let texts = std::iter::once(&request.url).chain(request.headers.iter().map(|(_, value)| value));
    let names = texts.flat_map(|text| pieces(text)).filter_map(|piece| match piece {
        Ok(Piece::Secret(name)) => Some(name.to_owned()),
        _ => None,
    });
    names.collect()
}

fn encoded(value: &str, set: &'static percent_encoding::AsciiSet) -> String {
    utf8_percent_encode(value, set).to_string()
}

/// Texts that an answer must not repeat.
pub(super) struct Echoes(Vec<String>);

impl Echoes {
    /// The same for a failure: a server may put into an error what it was sent.
    pub(super) fn remove_from_failure(&self, mut failure: Failure) -> Failure {
        for secret in &self.0 {
            if failure.message.contains(secret) {
                failure.message = failure.message.replace(secret, REMOVED);
            }
        }
        failure
    }

    /// Replaces what the answer repeats of secrets in its headers and in its body.
    pub(super) fn remove_from(&self, answer: &mut HttpResponse) {
        for secret in self.0.iter().filter(|_| !planted("echo-recorded")) {
            for (_, value) in &mut answer.headers {
                if value.contains(secret) {
                    *value = value.replace(secret, REMOVED);
                }
            }
            if let Some(body) = replaced(&answer.body, secret.as_bytes(), REMOVED.as_bytes()) {
                answer.body = body;
                answer.headers.retain(|(name, _)| name != "content-length");
            }
        }
    }
}

/// The bytes with one text replaced by another; none if it is not there.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let mut found = memmem::find_iter(bytes, from).peekable();
    found.peek()?;
    let (mut replaced, mut done) = (Vec::with_capacity(bytes.len()), 0);
    for at in found {
        replaced.extend_from_slice(&bytes[done..at]);
        replaced.extend_from_slice(to);
        done = at + from.len();
    }
    replaced.extend_from_slice(&bytes[done..]);
    Some(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_secrets_that_begin_alike_nothing_is_left() {
        let secrets = [("A", "abcdefgh"), ("B", "abcdefghREST")];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let headers = vec![("x".to_owned(), "{{secret:A}}{{secret:B}}".to_owned())];
        let url = "https://api.example.com/".to_owned();
        let request = HttpRequest { method: "GET".into(), url, headers, body: Vec::new(), timeout_ms: None };
        let echoes = Available::configured(&secrets).echoes(&named(&request));
        let failure = echoes.remove_from_failure(Failure::new("x", "sent abcdefghREST and abcdefgh"));
        assert_eq!(failure.message, "sent [secret] and [secret]");
    }

    #[test]
    fn what_an_answer_repeats_of_a_secret_is_replaced_in_every_form() {
        let secrets = [("TOKEN", "s3cret /+ü"), ("PIN", "1234"), ("UNUSED", "unused-value")];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = HttpRequest {
            method: "GET".into(),
            url: "https://api.example.com/{{secret:PIN}}?q={{secret:TOKEN}}".into(),
            headers: vec![("authorization".into(), "Bearer {{secret:TOKEN}}".into())],
            body: Vec::new(),
            timeout_ms: None,
        };
        let mut answer = HttpResponse {
            status: 200,
            headers: vec![
                ("content-length".into(), "7".into()),
                ("location".into(), "/?q=s3cret%20%2F%2B%C3%BC".into()),
                ("x-token".into(), "s3cret /+ü".into()),
            ],
            body: "a s3cret /+üs3cret /+ü 1234 unused-value".into(),
        };
        Available::configured(&secrets).echoes(&named(&request)).remove_from(&mut answer);
        let text = "a [secret][secret] 1234 unused-value";
        assert_eq!(String::from_utf8(answer.body).unwrap(), text);
        let kept = [("location", "/?q=[secret]"), ("x-token", "[secret]")];
        assert_eq!(answer.headers, kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
