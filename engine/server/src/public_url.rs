//! The address by which people reach this engine through a proxy. It may have a path, such as `https://example.com/ops/cb`:
//! then requests below that path are answered as well, whether or not the proxy takes the path away, and what pages and
//! redirects point at is below it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use http_body_util::{BodyExt, Collected};

/// The attributes of a page that hold a path of this engine. No text that others wrote looks like one of them: its
/// quotation marks are escaped.
const ATTRIBUTES: [&str; 4] = [" href=\"", " action=\"", " src=\"", " data-changes=\""];

/// The address by which people reach this engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// Scheme, host and port.
    origin: Arc<str>,
    /// The path without a slash at its end; empty if there is none.
    path: Arc<str>,
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write the address that people use, such as https://example.com/ops";
        let url: Uri = text.parse().map_err(|_| wrong)?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (url.scheme_str(), url.authority()) else {
            return Err(wrong);
        };
        if host.as_str().contains('@') || url.query().is_some() || text.contains('#') {
            return Err("a public address has no user, no query and no fragment");
        }
        let path = url.path().trim_end_matches('/');
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        if !path.is_empty() && !path[1..].split('/').all(is_segment) {
            return Err("the path of a public address has letters, digits and - . _ ~ between single slashes");
        }
        Ok(Self { origin: format!("{scheme}://{host}").into(), path: path.into() })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// The same services, asked for below the path of the public address as well.
pub(crate) fn asked_below(public: Option<PublicUrl>, services: axum::Router) -> axum::Router {
    match public {
        None => services,
        // What stands around a router is asked before the router looks for a route.
        Some(public) => {
            axum::Router::new().fallback_service(services).layer(middleware::from_fn_with_state(public, take_away))
        }
    }
}

async fn take_away(State(public): State<PublicUrl>, mut request: Request, next: Next) -> Response {
    if let Some(without) = without(&public.path, request.uri()) {
        *request.uri_mut() = without;
    }
    next.run(request).await
}

/// Puts what answers point at below the path of the public address.
pub(crate) async fn put_below(State(public): State<Option<PublicUrl>>, request: Request, next: Next) -> Response {
    below(public.as_ref(), next.run(request).await).await
}

/// The same for one answer. A page is in memory as a whole, before and after: its size is known to the limits on answers.
pub(crate) async fn below(public: Option<&PublicUrl>, mut answer: Response) -> Response {
    let Some(PublicUrl { path, .. }) = public.filter(|public| !public.path.is_empty()) else { return answer };
    put_before_location(path, answer.headers_mut());
    if !is_page(answer.headers()) {
        return answer;
    }
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    let (head, body) = answer.into_parts();
    let page = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    Response::from_parts(head, Body::from(put_before(path, page)))
}

/// An address without the path at its beginning; none if it does not begin with it.
fn without(path: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(path).filter(|_| !path.is_empty())?;
    let rest: PathAndQuery = match rest.as_bytes().first() {
        Some(b'/') => rest.parse().ok()?,
        None | Some(b'?') => format!("/{rest}").parse().ok()?,
        // The path is the beginning of another name only.
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Uri::from_parts(parts).ok()
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|held| held.as_bytes().starts_with(b"text/html"))
}

fn put_before_location(path: &str, headers: &mut HeaderMap) {
    let location = headers.get(header::LOCATION).and_then(|held| held.to_str().ok());
    let below = location.filter(|to| to.starts_with('/')).map(|to| HeaderValue::from_str(&format!("{path}{to}")));
    if let Some(Ok(below)) = below {
        headers.insert(header::LOCATION, below);
    }
}

/// Puts the path before each path of a page.
fn put_before(path: &str, page: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&page) else { return page };
    let put = |text: String, attribute: &&str| text.replace(&format!("{attribute}/"), &format!("{attribute}{path}/"));
    ATTRIBUTES.iter().fold(text.to_owned(), put).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_people_write_it_and_a_wrong_one_is_refused() {
        for (written, shown) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com/", "https://example.com"),
            ("http://127.0.0.1:8080/ops/cb/", "http://127.0.0.1:8080/ops/cb"),
            ("https://[::1]:9/a", "https://[::1]:9/a"),
        ] {
            assert_eq!(written.parse::<PublicUrl>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "/ops",
            "example.com",
            "example.com/ops",
            "ftp://example.com",
            "https://me@example.com",
            "https://",
            "https://example.com/?q=1",
            "https://example.com/#x",
            "https://example.com/a//b",
            "https://example.com/../a",
            "https://example.com/a%20b",
            "https://example.com/\"><script>",
            "https://example.com/a b",
        ] {
            assert!(wrong.parse::<PublicUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_path_is_taken_away_once_and_only_whole() {
        let of = |uri: &str| without("/ops/cb", &uri.parse().unwrap()).map(|uri| uri.to_string());
        for (asked, left) in [
            ("/ops/cb", Some("/")),
            ("/ops/cb/", Some("/")),
            ("/ops/cb?a=1", Some("/?a=1")),
            ("/ops/cb/executions?status=failed", Some("/executions?status=failed")),
            ("/ops/cb/ops/cb/x", Some("/ops/cb/x")),
            ("https://example.com/ops/cb/x", Some("https://example.com/x")),
            ("/ops/cbx", None),
            ("/executions", None),
        ] {
            assert_eq!(of(asked).as_deref(), left, "{asked}");
        }
    }

    #[test]
    fn each_path_of_a_page_is_put_below_and_no_text() {
        let page = r##"<a href="/x?y=/z">/a</a> <a href="#m"> <form action="/"> <img src="/i"> <main data-changes="/c">
            <input value="/v" title=" href=&quot;/t&quot;"> <a href="https://example.com/">"##;
        let put = put_before("/ops", Bytes::from(page));
        let expected = r##"<a href="/ops/x?y=/z">/a</a> <a href="#m"> <form action="/ops/"> <img src="/ops/i"> <main data-changes="/ops/c">
            <input value="/v" title=" href=&quot;/t&quot;"> <a href="https://example.com/">"##;
        assert_eq!(std::str::from_utf8(&put).unwrap(), expected);
    }

    /// The limits on answers that are not read go by the size.
    #[tokio::test]
    async fn the_size_of_a_page_is_known_before_and_after() {
        use axum::body::HttpBody;
        use axum::response::{Html, IntoResponse};

        let public: PublicUrl = "https://example.com/ops".parse().unwrap();
        let put = below(Some(&public), Html("<a href=\"/x\">").into_response()).await;
        assert_eq!(put.body().size_hint().exact(), Some("<a href=\"/ops/x\">".len() as u64));
    }
}
