//! Outgoing HTTP: who may be asked, secrets filled in, sizes and times bounded.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind};
use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::outside::{Grants, Web};

/// The largest answer accepted, in bytes.
const RESPONSE_BYTES_MAX: usize = 8 << 20;
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(60);

/// Sends requests for steps.
pub(crate) struct Fetcher {
    client: reqwest::Client,
    allowed: Vec<String>,
    secrets: BTreeMap<String, String>,
}

impl Web for Fetcher {
    fn fetch<'a>(
        &'a self,
        request: HttpRequest,
        key: &'a str,
        grants: &'a Grants,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        Box::pin(Self::fetch(self, request, key, grants))
    }
}

impl Fetcher {
    pub(crate) fn new(allowed: Vec<String>, secrets: BTreeMap<String, String>) -> Result<Self, String> {
        // Another part of the program may have chosen the same provider before; either is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let named = allowed.iter().map(|entry| split_port(entry).0.to_owned()).collect();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(PublicOnly { named }))
            .build()
            .map_err(|e| format!("cannot set up outgoing HTTP: {e}"))?;
        Ok(Self { client, allowed, secrets })
    }

    async fn fetch(&self, request: HttpRequest, key: &str, grants: &Grants) -> Result<HttpResponse, Failure> {
        let timeout = request.timeout_ms.map_or(TOTAL, Duration::from_millis).min(TOTAL);
        let request = self.prepare(request, key, grants)?;
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::retryable(
                kind::HTTP_TIMEOUT,
                format!("no complete answer within {} ms", timeout.as_millis()),
            )),
        }
    }

    fn prepare(&self, request: HttpRequest, key: &str, grants: &Grants) -> Result<reqwest::Request, Failure> {
        let invalid = |what: String| Failure::new(kind::INVALID_ARGUMENT, what);
        let url = self.with_secrets(&request.url, grants)?;
        // The text without secrets is what may stand in a message.
        let url = Url::parse(&url).map_err(|e| invalid(format!("`{}` is no URL: {e}", request.url)))?;
        self.permit(&url, grants)?;
        let method = request.method.parse().map_err(|_| invalid(format!("`{}` is no HTTP method", request.method)))?;
        let mut built = reqwest::Request::new(method, url);
        for (name, value) in &request.headers {
            let bad = |_| invalid(format!("`{name}` is no HTTP header name"));
            let header = reqwest::header::HeaderName::from_bytes(name.as_bytes()).map_err(bad)?;
            let value = self.with_secrets(value, grants)?;
            let value =
                value.parse().map_err(|_| invalid(format!("the value of header `{name}` is not allowed in HTTP")))?;
            built.headers_mut().append(header, value);
        }
        if !built.headers().contains_key("idempotency-key") {
            let key = key.parse().map_err(|_| invalid("the idempotency key is not allowed in HTTP".to_owned()))?;
            built.headers_mut().insert("idempotency-key", key);
        }
        *built.body_mut() = Some(request.body.into());
        Ok(built)
    }

    /// Refuses hosts that the component did not ask for or the operator did not allow.
    fn permit(&self, url: &Url, grants: &Grants) -> Result<(), Failure> {
        let refused = |what: String| Failure::new(kind::NOT_GRANTED, what);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(format!("`{}` is neither http nor https", url.scheme())));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(refused("the URL names no host".to_owned()));
        };
        let names = |entry: &String| {
            let (named, on) = split_port(entry);
            named.eq_ignore_ascii_case(host) && on.is_none_or(|on| on == port)
        };
        if !grants.hosts.iter().any(|entry| entry == "*" || names(entry)) {
            let hint = "declare it in the component's list of hosts";
            return Err(refused(format!("the component does not ask for host {host}:{port}: {hint}")));
        }
        if self.allowed.iter().any(names) {
            return Ok(());
        }
        let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let public = literal.is_none_or(is_public) && matches!(port, 80 | 443);
        if self.allowed.iter().any(|entry| entry == "*") && public {
            return Ok(());
        }
        Err(refused(format!(
            "the engine does not allow requests to {host}:{port}: start it with --allow-http {host}:{port}"
        )))
    }

    fn with_secrets(&self, text: &str, grants: &Grants) -> Result<String, Failure> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{secret:") {
            filled.push_str(before);
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            let declared = grants.secrets.iter().any(|secret| secret == name);
            match self.secrets.get(name).filter(|_| declared) {
                Some(secret) => filled.push_str(secret),
                None if declared => {
                    let hint = format!("set CEREBELUM_SECRET_{name} or [secrets] in the engine's configuration");
                    return Err(Failure::new(kind::NOT_GRANTED, format!("the engine has no secret `{name}`: {hint}")));
                }
                None => {
                    let hint = "declare it in the component's list of secrets";
                    return Err(Failure::new(
                        kind::NOT_GRANTED,
                        format!("the component does not ask for secret `{name}`: {hint}"),
                    ));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<HttpResponse, Failure> {
        let mut response = self.client.execute(request).await.map_err(|e| failure(&e))?;
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| failure(&e))? {
            if body.len() + part.len() > RESPONSE_BYTES_MAX {
                return Err(Failure::new(
                    kind::HTTP_TOO_LARGE,
                    format!("the answer is larger than {RESPONSE_BYTES_MAX} bytes"),
                ));
            }
            body.extend_from_slice(&part);
        }
        Ok(HttpResponse { status, headers, body })
    }
}

/// A transport error in words that hold no URL, since that may hold a secret.
fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = match () {
        () if error.is_timeout() => kind::HTTP_TIMEOUT,
        () if error.is_connect() => kind::HTTP_CONNECT,
        () => kind::HTTP_PROTOCOL,
    };
    Failure::retryable(kind, format!("the request failed: {cause}"))
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Resolves names, and refuses those that lead to a private address unless the operator named the host.
struct PublicOnly {
    named: Vec<String>,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let is_named = self.named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !is_named && !found.iter().all(|address| is_public(address.ip())) {
                return Err(format!("`{}` leads to an address that is not public", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet, seen through the ways IPv6 wraps IPv4.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.is_documentation())
                && !(v4.is_multicast() || a == 0 || a >= 240)
                && !(a == 100 && (64..128).contains(&b)
                    || a == 198 && (18..20).contains(&b)
                    || (a, b, c) == (192, 0, 0))
        }
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0x0db8],
        },
    }
}

/// The IPv4 address inside v4-mapped, NAT64, 6to4 and Teredo addresses.
fn embedded(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(std::net::Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(allowed: &[&str], hosts: &[&str], url: &str) -> bool {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let fetcher = Fetcher::new(texts(allowed), BTreeMap::new()).unwrap();
        fetcher.permit(&url.parse().unwrap(), &Grants { hosts: texts(hosts), secrets: vec![] }).is_ok()
    }

    #[test]
    fn only_hosts_that_are_asked_for_and_allowed_are_reached() {
        assert!(permit(&["localhost:8080"], &["*"], "http://localhost:8080/x"));
        assert!(permit(&["localhost"], &["localhost:8080"], "http://LOCALHOST:8080/x"));
        assert!(permit(&["*"], &["api.example.com"], "https://api.example.com/"));
        assert!(!permit(&["localhost:8080"], &["*"], "http://localhost:8081/x"));
        assert!(!permit(&["*"], &["api.example.com"], "https://other.example.com/"));
        assert!(!permit(&["*"], &[], "https://api.example.com/"));
        assert!(!permit(&[], &["*"], "https://api.example.com/"));
        assert!(!permit(&["*"], &["*"], "ftp://api.example.com/"));
        assert!(!permit(&["*"], &["*"], "https://api.example.com:22/"));
    }

    #[test]
    fn a_star_never_means_a_private_address() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "0.0.0.0",
        ] {
            assert!(!permit(&["*"], &["*"], &format!("http://{address}/")), "{address}");
        }
        assert!(permit(&["127.0.0.1:80"], &["*"], "http://127.0.0.1/"));
        assert!(permit(&["*"], &["*"], "http://[2606:4700::1111]/"));
    }

    #[test]
    fn secrets_are_filled_in_only_when_declared() {
        let secrets = BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]);
        let fetcher = Fetcher::new(vec![], secrets).unwrap();
        let grants = Grants { hosts: vec![], secrets: vec!["TOKEN".into(), "OTHER".into()] };
        assert_eq!(fetcher.with_secrets("Bearer {{secret:TOKEN}}!", &grants).unwrap(), "Bearer s3cret!");
        assert_eq!(fetcher.with_secrets("{{secret:OTHER}}", &grants).unwrap_err().kind, kind::NOT_GRANTED);
        assert_eq!(fetcher.with_secrets("{{secret:TOKEN}}", &Grants::default()).unwrap_err().kind, kind::NOT_GRANTED);
    }
}
