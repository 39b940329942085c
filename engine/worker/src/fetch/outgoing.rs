//! Builds the outgoing request from a guest's request: first limits and permissions, then secrets.
//!
//! Error messages only quote the guest's own text, in which secrets are placeholders. No message contains a secret.

use bytes::Bytes;
use cerebelum_history::{Failure, HttpRequest, brief, kind};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Position, Url};

use super::available::Available;
use super::permits::{NotGranted, Permits, asks_for};
use crate::env::HostHeaders;
use crate::grants::Grants;

/// The longest method, in bytes.
const METHOD_BYTES_MAX: usize = 32;
/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8 << 10;
/// How many headers a request may have.
const REQUEST_HEADERS_MAX: usize = 128;
/// The longest name of a header, in bytes.
const HEADER_NAME_BYTES_MAX: usize = 256;
/// The longest value of a header, in bytes.
const HEADER_VALUE_BYTES_MAX: usize = 16 << 10;
/// How many bytes the names and values of a request's headers may have together.
const REQUEST_HEADER_BYTES_MAX: usize = 32 << 10;
/// The longest path and query once secrets are filled in, in bytes.
const FILLED_URL_BYTES_MAX: usize = 2 * URL_BYTES_MAX;
/// The longest value of a header once secrets are filled in, in bytes.
const FILLED_VALUE_BYTES_MAX: usize = 2 * HEADER_VALUE_BYTES_MAX;
/// How many bytes all headers may have once secrets are filled in.
const FILLED_HEADER_BYTES_MAX: usize = 2 * REQUEST_HEADER_BYTES_MAX;
/// The largest body of a request, in bytes. One call of a guest has at most 4 MiB in all, headers included.
const REQUEST_BODY_BYTES_MAX: usize = 3 << 20;
/// How many characters of a guest's text a message quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// Methods with a special meaning for intermediaries between engine and server.
const METHODS_REFUSED: [&str; 4] = ["CONNECT", "TRACE", "TRACK", "PRI"];
/// Headers that belong to the connection and not to the request. The engine writes them itself; a guest's are dropped.
const HEADERS_DROPPED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-connection",
];

/// The beginning of a placeholder in a request.
const PLACEHOLDER: &str = "{{secret:";

/// Characters that are not escaped in a path.
pub(super) const PATH: &AsciiSet = &QUERY.remove(b'&').remove(b'+').remove(b'=');
/// Characters that are not escaped in the name or value of a query.
pub(super) const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b';')
    .remove(b':')
    .remove(b'@');

impl From<NotGranted> for Failure {
    fn from(why: NotGranted) -> Self {
        Self::new(kind::NOT_GRANTED, why.0)
    }
}

/// Builds the request that may leave.
///
/// # Errors
/// `invalid-argument` when it is not a valid request or exceeds a limit, `not-granted` when its host or a secret is not
/// allowed.
pub(super) fn prepare(
    request: HttpRequest,
    host_headers: &HostHeaders,
    grants: &Grants,
    (permits, secrets): (&Permits, &Available),
) -> Result<Request<Full<Bytes>>, Failure> {
    let method = method(&request.method)?;
    let headers = headers(&request.headers)?;
    if request.body.len() > REQUEST_BODY_BYTES_MAX {
        return Err(too_large("the body of a request", request.body.len(), REQUEST_BODY_BYTES_MAX));
    }
    let template = Template::parse(&request.url)?;
    let to = permit(&template.url, grants, permits)?;
    let granted = Secrets { grants, secrets, to };
    let uri = template.fill(&granted)?;
    let mut built = Request::new(Full::from(request.body));
    (*built.method_mut(), *built.uri_mut()) = (method, uri);
    *built.headers_mut() = fill_headers(headers, (&template.url, host_headers), &granted)?;
    Ok(built)
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) is_https: bool,
}

fn invalid(what: String) -> Failure {
    Failure::new(kind::INVALID_ARGUMENT, what)
}

fn too_large(what: &str, is: usize, max: usize) -> Failure {
    invalid(format!("{what} has {is} bytes, at most {max} are allowed"))
}

/// Quotes a guest's text for a message.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", brief(text, QUOTED_CHARS_MAX).escape_debug())
}

fn method(text: &str) -> Result<Method, Failure> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= METHOD_BYTES_MAX);
    let method = method.ok_or_else(|| invalid(format!("{} is not an HTTP method", quoted(text))))?;
    match METHODS_REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(text)) {
        true => Err(invalid(format!("requests with the method {} are not sent", quoted(text)))),
        false => Ok(method),
    }
}

/// The headers that are sent, each with the template of its value.
fn headers(asked: &[(String, String)]) -> Result<Vec<(HeaderName, &str)>, Failure> {
    if asked.len() > REQUEST_HEADERS_MAX {
        let count = asked.len();
        return Err(invalid(format!("the request has {count} headers, at most {REQUEST_HEADERS_MAX} are allowed")));
    }
    let bytes: usize = asked.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut headers = Vec::with_capacity(asked.len());
    for (name, value) in asked {
        if name.len() > HEADER_NAME_BYTES_MAX {
            return Err(too_large("the name of a header", name.len(), HEADER_NAME_BYTES_MAX));
        }
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("{} is not the name of an HTTP header", quoted(name))))?;
        if value.len() > HEADER_VALUE_BYTES_MAX {
            return Err(too_large(
                &format!("the value of header {}", quoted(name)),
                value.len(),
                HEADER_VALUE_BYTES_MAX,
            ));
        }
        if !HEADERS_DROPPED.contains(&header.as_str()) {
            headers.push((header, value.as_str()));
        }
    }
    match bytes > REQUEST_HEADER_BYTES_MAX {
        true => Err(too_large("the names and values of all headers", bytes, REQUEST_HEADER_BYTES_MAX)),
        false => Ok(headers),
    }
}

fn fill_headers(
    asked: Vec<(HeaderName, &str)>,
    (url, host): (&Url, &HostHeaders),
    secrets: &Secrets<'_>,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(asked.len() + 4);
    let mut bytes = 0;
    for (name, template) in asked {
        if name == http::header::HOST {
            if !template.eq_ignore_ascii_case(authority(url)) {
                return Err(invalid(format!(
                    "the header `host` is {}, the URL's host is `{}`: they must be the same",
                    quoted(template),
                    authority(url)
                )));
            }
            continue;
        }
        let (filled, is_secret) = secrets.fill(template)?;
        bytes += name.as_str().len() + filled.len();
        if bytes > FILLED_HEADER_BYTES_MAX {
            return Err(too_long("the head of the request", FILLED_HEADER_BYTES_MAX));
        }
        let mut value = HeaderValue::from_bytes(filled.as_bytes())
            .map_err(|_| invalid(format!("the value of header `{name}` is not allowed in HTTP")))?;
        value.set_sensitive(is_secret);
        headers.append(name, value);
    }
    if !headers.contains_key("idempotency-key") {
        let key = host.key.parse().map_err(|_| invalid("the idempotency key is not allowed in HTTP".to_owned()))?;
        headers.insert("idempotency-key", key);
    }
    if !headers.contains_key("traceparent")
        && let Some(traceparent) = &host.traceparent
    {
        // A `tracestate` belongs to a `traceparent`: a guest that has only the former means another trace.
        let state = host.tracestate.as_ref().filter(|_| !headers.contains_key("tracestate"));
        for (name, value) in [("traceparent", Some(traceparent)), ("tracestate", state)] {
            if let Some(Ok(value)) = value.map(|value| value.parse()) {
                headers.insert(name, value);
            }
        }
    }
    headers.entry(http::header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    Ok(headers)
}

/// The host and port of a request. Rejects those that the component does not declare or the operator does not allow.
fn permit<'u>(url: &'u Url, grants: &Grants, permits: &Permits) -> Result<Destination<'u>, Failure> {
    let refused = |what: String| Failure::new(kind::NOT_GRANTED, what);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("{} is neither http nor https", quoted(url.scheme()))));
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(refused("the URL names no host".to_owned()));
    };
    if !asks_for(&grants.hosts, host, port) {
        let hint = hint(grants, "declare it in the component's list of hosts");
        return Err(refused(format!("the component does not ask for host {host}:{port}: {hint}")));
    }
    permits.check(host, port)?;
    Ok(Destination { host, port, is_https: url.scheme() == "https" })
}

/// What helps against a missing permission.
fn hint(grants: &Grants, declare: &'static str) -> &'static str {
    match grants.are_partial {
        true => "if it does, an admin has to grant it (`cerebelum components accept`)",
        false => declare,
    }
}

fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

/// A URL with its placeholders replaced by words that occur nowhere else in it.
struct Template {
    url: Url,
    /// The word, and the name of the secret that replaces it.
    places: Vec<(String, String)>,
}

impl Template {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.len() > URL_BYTES_MAX {
            return Err(too_large("the URL", text.len(), URL_BYTES_MAX));
        }
        let lower = text.to_ascii_lowercase();
        let mut word = "placeholder".to_owned();
        while lower.contains(&word) {
            word.push('x');
        }
        let (mut places, mut plain) = (Vec::new(), String::with_capacity(text.len()));
        for piece in pieces(text) {
            match piece? {
                Piece::Text(text) => plain.push_str(text),
                Piece::Secret(name) => {
                    // Digits follow the word, and a letter follows the digits, so that no replacement is a prefix of
                    // another one.
                    let place = format!("{word}{}z", places.len());
                    plain.push_str(&place);
                    places.push((place, name.to_owned()));
                }
            }
        }
        let misplaced = || invalid(format!("{}: a secret may stand in the path and the query only", quoted(text)));
        let url = match Url::parse(&plain) {
            Ok(url) => url,
            Err(_) if !places.is_empty() && Url::parse(text).is_err() => return Err(misplaced()),
            Err(e) => return Err(invalid(format!("{} is not a valid URL: {e}", quoted(text)))),
        };
        let rest = &url[Position::BeforePath..Position::AfterQuery];
        if !places.iter().all(|(place, _)| rest.contains(place.as_str())) {
            return Err(misplaced());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a URL may not hold a user or a password: send the header `authorization`".to_owned()));
        }
        Ok(Self { url, places })
    }

    fn fill(&self, secrets: &Secrets<'_>) -> Result<Uri, Failure> {
        let mut places = self.places.as_slice();
        let mut filled = filled(self.url.path(), &mut places, (PATH, secrets))?;
        if let Some(query) = self.url.query() {
            filled.push('?');
            filled.push_str(&self::filled(query, &mut places, (QUERY, secrets))?);
        }
        if filled.len() > FILLED_URL_BYTES_MAX {
            return Err(too_long("the URL", FILLED_URL_BYTES_MAX));
        }
        let unsuitable = || invalid("the URL cannot be asked over HTTP".to_owned());
        Uri::builder()
            .scheme(self.url.scheme())
            .authority(authority(&self.url))
            .path_and_query(PathAndQuery::try_from(filled).map_err(|_| unsuitable())?)
            .build()
            .map_err(|_| unsuitable())
    }
}

/// A part of a URL with the secrets of its places, which stand there in this order. Takes these places away.
fn filled(
    part: &str,
    places: &mut &[(String, String)],
    (set, secrets): (&'static AsciiSet, &Secrets<'_>),
) -> Result<String, Failure> {
    let (mut filled, mut rest) = (String::with_capacity(part.len()), part);
    while let Some(((place, name), later)) = places.split_first() {
        let Some((before, after)) = rest.split_once(place.as_str()) else { break };
        filled.push_str(before);
        filled.extend(utf8_percent_encode(secrets.get(name)?, set));
        if filled.len() > FILLED_URL_BYTES_MAX {
            return Err(too_long("the URL", FILLED_URL_BYTES_MAX));
        }
        (rest, *places) = (after, later);
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The refusal of what has become too long by its secrets. It does not say how long, because that tells their lengths.
fn too_long(what: &str, max: usize) -> Failure {
    invalid(format!("{what} has more than {max} bytes once its secrets are filled in"))
}

/// A piece of a text with placeholders.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

pub(super) fn pieces(text: &str) -> impl Iterator<Item = Result<Piece<'_>, Failure>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.find(PLACEHOLDER).unwrap_or(rest.len());
        if at > 0 {
            let (before, after) = rest.split_at(at);
            rest = after;
            return Some(Ok(Piece::Text(before)));
        }
        let after = rest.strip_prefix(PLACEHOLDER)?;
        let piece = after.split_once("}}");
        rest = piece.map_or("", |(_, after)| after);
        let unclosed = || invalid(format!("a placeholder `{PLACEHOLDER}NAME}}}}` is not closed"));
        Some(piece.map(|(name, _)| Piece::Secret(name)).ok_or_else(unclosed))
    })
}

/// The secrets that a component may use.
struct Secrets<'a> {
    grants: &'a Grants,
    secrets: &'a Available,
    /// Where the request goes.
    to: Destination<'a>,
}

impl Secrets<'_> {
    fn get(&self, name: &str) -> Result<&str, Failure> {
        let refused = |what: String| Err(Failure::new(kind::NOT_GRANTED, what));
        let shown = quoted(name);
        if !self.grants.secrets.iter().any(|secret| secret == name) {
            let hint = hint(self.grants, "declare it in the component's list of secrets");
            return refused(format!("the component does not ask for secret {shown}: {hint}"));
        }
        self.secrets.get((self.grants.tenant, name), self.to)
    }

    /// The text with its secrets filled in, and whether it has any.
    fn fill(&self, template: &str) -> Result<(String, bool), Failure> {
        let (mut filled, mut is_secret) = (String::with_capacity(template.len()), false);
        for piece in pieces(template) {
            match piece? {
                Piece::Text(text) => filled.push_str(text),
                Piece::Secret(name) => {
                    filled.push_str(self.get(name)?);
                    is_secret = true;
                    if filled.len() > FILLED_VALUE_BYTES_MAX {
                        return Err(too_long("the value of a header", FILLED_VALUE_BYTES_MAX));
                    }
                }
            }
        }
        Ok((filled, is_secret))
    }
}

#[cfg(test)]
mod tests;
