//! HTTP for steps: the types of the crate `http`, and a builder around them.
//!
//! ```no_run
//! # use cerebelum::prelude::*;
//! # #[data] struct Order { size: String }
//! # #[data] struct Droplet { id: u64 }
//! #[step(retry(max_attempts = 5), timeout = "30s")]
//! async fn create_droplet(ctx: Context, order: Order) -> Result<Droplet> {
//!     http::post("https://api.example.com/v2/droplets")
//!         .bearer(secret("TOKEN"))
//!         .json(&order)
//!         .send(&ctx)
//!         .await?
//!         .error_for_status()?
//!         .json()
//! }
//! ```

use futures::future::{FutureExt, LocalBoxFuture};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::context::Context;
use crate::durable::{Ask, Durable};
use crate::error::{Error, Result, kind};
use crate::host::{Host, HttpRequest};
use crate::json::{decode, encode};
use crate::time::IntoDuration;

/// A request's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body(Vec<u8>);

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// A placeholder for a secret in a header or a URL. The host fills it in after the request was journaled, so the secret
/// never appears in an input, a history or a log. It must be named in [`component!`](crate::component!).
#[must_use]
pub fn secret(name: &str) -> String {
    format!("{{{{secret:{name}}}}}")
}

/// A GET request.
pub fn get(url: impl Into<String>) -> RequestBuilder {
    request(Method::GET, url)
}

/// A POST request.
pub fn post(url: impl Into<String>) -> RequestBuilder {
    request(Method::POST, url)
}

/// A PUT request.
pub fn put(url: impl Into<String>) -> RequestBuilder {
    request(Method::PUT, url)
}

/// A PATCH request.
pub fn patch(url: impl Into<String>) -> RequestBuilder {
    request(Method::PATCH, url)
}

/// A DELETE request.
pub fn delete(url: impl Into<String>) -> RequestBuilder {
    request(Method::DELETE, url)
}

/// A request of any method.
pub fn request(method: Method, url: impl Into<String>) -> RequestBuilder {
    let request =
        HttpRequest { method: method.to_string(), url: url.into(), headers: vec![], body: vec![], timeout_ms: None };
    RequestBuilder { request: Ok(request) }
}

/// A request under construction; mistakes in it are reported when it is sent.
#[derive(Debug)]
#[must_use = "a request leaves when it is sent and awaited"]
pub struct RequestBuilder {
    request: Result<HttpRequest>,
}

impl RequestBuilder {
    /// Adds a header.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|request| {
            request.headers.push((name.into(), value.into()));
            Ok(())
        })
    }

    /// Adds `Authorization: Bearer …`; see [`secret`].
    pub fn bearer(self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// Replaces the engine's own key, which is the same in all retries and reruns.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds `name=value` pairs to the URL, escaped.
    pub fn query<N: AsRef<str>, V: ToString>(self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        self.with(|request| {
            for (name, value) in pairs {
                request.url.push(if request.url.contains('?') { '&' } else { '?' });
                escape(&mut request.url, name.as_ref());
                request.url.push('=');
                escape(&mut request.url, &value.to_string());
            }
            Ok(())
        })
    }

    /// Sends a value as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        self.with(|request| {
            request.body = encode(value)?.into_bytes();
            Ok(())
        })
        .header("content-type", "application/json")
    }

    /// Sends these bytes or this text.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|request| {
            request.body = body.into().0;
            Ok(())
        })
    }

    /// Bounds the whole exchange; the default is 60 s.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.with(|request| {
            request.timeout_ms = Some(timeout.into_ms()?);
            Ok(())
        })
    }

    /// The durable call that sends the request.
    pub fn send(self, ctx: &Context) -> Fetch {
        Durable::new(AskFetch { host: ctx.host.clone(), request: self.request })
    }

    fn with(mut self, change: impl FnOnce(&mut HttpRequest) -> Result<()>) -> Self {
        if let Ok(request) = &mut self.request
            && let Err(error) = change(request)
        {
            self.request = Err(error);
        }
        self
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn escape(url: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(byte as char);
        } else {
            url.push('%');
            url.push(DIGITS[usize::from(byte >> 4)] as char);
            url.push(DIGITS[usize::from(byte & 15)] as char);
        }
    }
}

/// A request on its way. Any status is a response; a request without a response is an error of a kind `http-…`.
pub type Fetch = Durable<'static, AskFetch>;

/// The request behind [`Fetch`].
#[doc(hidden)]
pub struct AskFetch {
    host: Host,
    request: Result<HttpRequest>,
}

impl AskFetch {
    pub(crate) fn call(ctx: &Context, request: Request<impl Into<Body>>) -> Fetch {
        let (parts, body) = request.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = value.to_str().map_err(|_| {
                Error::new(kind::INVALID_ARGUMENT, format!("header `{name}` is no visible ASCII")).permanent()
            })?;
            Ok((name.to_string(), value.to_owned()))
        });
        let request = headers.collect::<Result<_>>().map(|headers| HttpRequest {
            method: parts.method.to_string(),
            url: parts.uri.to_string(),
            headers,
            body: body.into().0,
            timeout_ms: None,
        });
        Durable::new(Self { host: ctx.host.clone(), request })
    }
}

impl Fetch {
    /// Bounds the whole exchange; the default is 60 s.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|AskFetch { host, request }| {
            let request = RequestBuilder { request }.timeout(timeout).request;
            AskFetch { host, request }
        })
    }
}

impl Ask<'static> for AskFetch {
    type Output = Response<Vec<u8>>;

    fn ask(self) -> LocalBoxFuture<'static, Result<Response<Vec<u8>>>> {
        async move {
            let answer = self.host.fetch(self.request?).await?;
            let mut response = Response::builder().status(answer.status);
            for (name, value) in answer.headers {
                response = response.header(name, value);
            }
            Ok(response.body(answer.body)?)
        }
        .boxed_local()
    }
}

/// Common operations on a response.
pub trait ResponseExt: Sized {
    /// The body as JSON.
    ///
    /// # Errors
    /// When the body is not JSON of that type.
    fn json<T: DeserializeOwned>(&self) -> Result<T>;

    /// The body as text; bytes that are not UTF-8 become `�`.
    fn text(&self) -> String;

    /// The response itself, unless its status is 400 or more.
    ///
    /// # Errors
    /// Of kind `http-status`, with status and body in the details. Another attempt may fix 408, 425, 429 and 5xx; other
    /// statuses are permanent.
    fn error_for_status(self) -> Result<Self>;
}

impl ResponseExt for Response<Vec<u8>> {
    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        decode(&self.text())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.body()).into_owned()
    }

    fn error_for_status(self) -> Result<Self> {
        let status = self.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(self);
        }
        let body: String = self.text().chars().take(2_000).collect();
        let error = Error::new(kind::HTTP_STATUS, format!("the server answered {status}"))
            .with_details(json!({ "status": status.as_u16(), "body": body }));
        let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        Err(if may_pass { error } else { error.permanent() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_built_as_it_is_said() {
        let built = post("http://x/y?z=1").query([("a b", "c&d")]).bearer(secret("T")).json(&[1]).timeout("2s");
        let request = built.request.unwrap();
        assert_eq!(request.url, "http://x/y?z=1&a%20b=c%26d");
        assert_eq!(request.headers[0], ("authorization".to_owned(), "Bearer {{secret:T}}".to_owned()));
        assert_eq!(
            (request.method.as_str(), request.body.as_slice(), request.timeout_ms),
            ("POST", &b"[1]"[..], Some(2_000))
        );
        assert!(get("http://x").timeout("soon").request.is_err());
    }

    #[test]
    fn only_passing_statuses_are_worth_another_attempt() {
        for (status, retryable) in [(500, true), (503, true), (429, true), (404, false), (400, false)] {
            let response = Response::builder().status(status).body(b"why".to_vec()).unwrap();
            let error = response.error_for_status().unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind::HTTP_STATUS, retryable), "{status}");
        }
        assert!(Response::new(vec![]).error_for_status().is_ok());
    }
}
