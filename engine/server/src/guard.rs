//! Accepts requests of programs that call this engine by its own name, and refuses those of web pages in a browser on
//! this machine.
//!
//! A browser lets any page send some requests to any address, without a preflight and with a harmless content type. And
//! the name of a page can be made to resolve to this machine (DNS rebinding). So gRPC requests need the content type of
//! gRPC, which no page can send without a preflight, and the origin that a browser reports must be this engine.

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cerebelum_history::planted;
use tonic::Status;

use crate::entries::Entries;
use crate::pages;
use crate::public_url::{PublicUrl, below};
use crate::rest::{PREFIX, Problem};

/// Answers for monitors, over HTTP/1.1 as well.
pub(crate) const PROBES: [&str; 2] = ["/healthz", "/metrics"];
/// The content types of gRPC requests.
const GRPC: [&str; 2] = ["application/grpc", "application/grpc+proto"];

/// The names by which requests may call this engine, and the schemes of its own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origins {
    /// The loopback names of this machine, without TLS.
    ThisMachine,
    /// Any name: the engine's certificate tells which are its own.
    Tls,
    /// Any name: a proxy decides which are its own, and whether they have TLS.
    BehindProxy,
}

impl Origins {
    fn are_called(self, name: &Authority) -> bool {
        self != Self::ThisMachine || is_this_machine(name)
    }

    const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::ThisMachine => &["http"],
            Self::Tls => &["https"],
            Self::BehindProxy => &["https", "http"],
        }
    }
}

/// What [`guard`] goes by.
#[derive(Debug, Clone)]
pub(crate) struct Walls {
    pub(crate) origins: Origins,
    pub(crate) pages: Entries,
    /// The address at which people know the engine.
    pub(crate) public_url: Option<PublicUrl>,
}

/// Lets a request pass, or answers with the reason for refusing it.
pub(crate) async fn guard(State(walls): State<Walls>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let is_page = walls.pages.has(matched);
    let is_rest = request.uri().path().starts_with(PREFIX);
    match check(walls.origins, &request, is_page) {
        Ok(()) => next.run(request).await,
        Err((StatusCode::FORBIDDEN, _)) if is_page && is_followed_link(&request) => pages::bounce(),
        Err((StatusCode::NOT_FOUND, why)) if wants_page(&request) => {
            below(walls.public_url.as_ref(), pages::refused(Status::not_found(why), &request)).await
        }
        Err((status, why)) if is_rest => Problem::from_guard(status, why).into_response(),
        Err((status, why)) => (status, format!("{why}\n")).into_response(),
    }
}

/// Whether a person follows a link that stands elsewhere. The answer is a page of this engine that asks again, and that
/// request comes from here: nothing is ever shown or done in answer to a request of another page.
fn is_followed_link(request: &Request) -> bool {
    let is = |name: &str, value: &[u8]| request.headers().get(name).is_some_and(|held| held.as_bytes() == value);
    request.method() == Method::GET
        && is("sec-fetch-mode", b"navigate")
        && is("sec-fetch-dest", b"document")
        && !request.headers().contains_key(header::ORIGIN)
}

type Denied = (StatusCode, &'static str);

fn check(origins: Origins, request: &Request, is_page: bool) -> Result<(), Denied> {
    let called = called(origins, request)?;
    if !comes_from_here(origins, request.headers(), &called) && !planted("pages-of-others") {
        return Err((StatusCode::FORBIDDEN, "web pages of others may not ask this engine"));
    }
    let path = request.uri().path();
    match is_page || PROBES.contains(&path) || path.starts_with(PREFIX) {
        true => Ok(()),
        false if wants_page(request) => Err((StatusCode::NOT_FOUND, "there is no such page")),
        false if !is_of_grpc(path) => {
            Err((StatusCode::NOT_FOUND, "there is no such path: pages begin at /, REST at /v1/"))
        }
        false => is_grpc(request),
    }
}

/// Whether a path names a method of a gRPC service, such as `/cerebelum.v1.Engine/Status`.
fn is_of_grpc(path: &str) -> bool {
    matches!(path.split('/').collect::<Vec<_>>()[..], ["", service, method] if service.contains('.') && !method.is_empty())
}

/// Whether a browser asks for a page.
fn wants_page(request: &Request) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|held| held.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accepted.contains("text/html")
}

/// The name by which the request calls this engine. It has to be one of the engine's names.
fn called(origins: Origins, request: &Request) -> Result<Authority, Denied> {
    let elsewhere = match origins {
        Origins::ThisMachine => "call this engine by a loopback name such as 127.0.0.1",
        _ => "the request must name this engine once: its address and its `Host` have to be the same",
    };
    let elsewhere = (StatusCode::MISDIRECTED_REQUEST, elsewhere);
    let hosts = request.headers().get_all(header::HOST).iter();
    let hosts = hosts.map(|host| host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()));
    let of_uri = request.uri().authority().map(|authority| Some(authority.clone()));
    let mut names = of_uri.into_iter().chain(hosts);
    let first = names.next().flatten().filter(|name| origins.are_called(name)).ok_or(elsewhere)?;
    match names.all(|name| name.is_some_and(|name| name.as_str().eq_ignore_ascii_case(first.as_str()))) {
        true => Ok(first),
        false => Err(elsewhere),
    }
}

/// Whether this is a loopback name, which leads to the machine that it is said on.
#[must_use]
pub fn is_this_machine(name: &Authority) -> bool {
    let host = name.host();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
    !name.as_str().contains('@') && (bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback))
}

/// Whether a request from a browser comes from this engine's own page, or from the address bar. A request that is not
/// from a browser passes.
fn comes_from_here(origins: Origins, headers: &HeaderMap, called: &Authority) -> bool {
    let is_own = |origin: &header::HeaderValue| {
        let is_of = |scheme: &&str| origin.as_bytes().eq_ignore_ascii_case(format!("{scheme}://{called}").as_bytes());
        origins.schemes().iter().any(is_of)
    };
    let is_near = |site: &header::HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.get_all(header::ORIGIN).iter().all(is_own) && headers.get_all("sec-fetch-site").iter().all(is_near)
}

fn is_grpc(request: &Request) -> Result<(), Denied> {
    if request.version() != Version::HTTP_2 {
        return Err((StatusCode::HTTP_VERSION_NOT_SUPPORTED, "this is gRPC, which is spoken over HTTP/2"));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "this is gRPC, whose method is POST"));
    }
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
    let is_grpc =
        |held: &header::HeaderValue| GRPC.iter().any(|grpc| held.as_bytes().eq_ignore_ascii_case(grpc.as_bytes()));
    match (types.next(), types.next()) {
        (Some(held), None) if is_grpc(held) => Ok(()),
        _ => Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is gRPC: its content type is application/grpc")),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(version: Version, uri: &str, headers: &[(&str, &str)]) -> u16 {
        asked_at(Origins::ThisMachine, version, uri, headers)
    }

    fn asked_at(origins: Origins, version: Version, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method("POST").version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(origins, &request.body(Body::empty()).unwrap(), false)
            .map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    const STATUS: &str = "/cerebelum.v1.Engine/Status";

    #[test]
    fn only_loopback_names_call_this_machine() {
        for host in
            ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:9090", "[::1]", "[::1]:9090", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(asked(Version::HTTP_11, "/healthz", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[fe80::1]",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost, evil.example",
            "[::1",
        ] {
            assert_eq!(asked(Version::HTTP_11, "/healthz", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(asked(Version::HTTP_11, "/healthz", &[]), 421);
        assert_eq!(asked(Version::HTTP_11, "/healthz", &[("host", "localhost"), ("host", "evil.example")]), 421);
        assert_eq!(asked(Version::HTTP_2, "http://evil.example/healthz", &[("host", "localhost")]), 421);
        assert_eq!(asked(Version::HTTP_2, "http://localhost/healthz", &[("host", "evil.example")]), 421);
    }

    #[test]
    fn what_a_browser_says_of_a_pages_origin_must_be_this_engine() {
        let with = |path: &str, name: &str, value: &str| {
            let held = ("content-type", "application/grpc");
            asked(Version::HTTP_2, &format!("http://localhost:9090{path}"), &[held, (name, value)])
        };
        for path in [STATUS, "/healthz", "/metrics"] {
            assert_eq!(with(path, "origin", "http://localhost:9090"), 200);
            for site in ["same-origin", "none"] {
                assert_eq!(with(path, "sec-fetch-site", site), 200);
            }
            for origin in [
                "null",
                "",
                "http://evil.example",
                "http://localhost:3000",
                "http://localhost",
                "https://localhost:9090",
                "http://127.0.0.1:9090",
                "http://localhost:9090.evil.example",
                "http://localhost:9090, http://evil.example",
                "chrome-extension://abc",
            ] {
                assert_eq!(with(path, "origin", origin), 403, "{path} {origin}");
            }
            for site in ["cross-site", "same-site", "", "Cross-Site", "same-origin, cross-site"] {
                assert_eq!(with(path, "sec-fetch-site", site), 403, "{path} {site}");
            }
        }
    }

    #[test]
    fn beyond_this_machine_any_name_calls_the_engine_and_its_pages_have_that_name() {
        for (origins, own, other) in [
            (Origins::Tls, "https://engine.example:9090", "http://engine.example:9090"),
            (Origins::BehindProxy, "http://engine.example:9090", "https://evil.example"),
        ] {
            let with = |origin: &str| {
                let headers = [("host", "engine.example:9090"), ("origin", origin)];
                asked_at(origins, Version::HTTP_11, "/v1/executions", &headers)
            };
            assert_eq!((with(own), with(other), with("null")), (200, 403, 403), "{origins:?}");
            assert_eq!(asked_at(origins, Version::HTTP_11, "/healthz", &[]), 421, "{origins:?}");
        }
    }

    #[test]
    fn grpc_is_what_it_says() {
        let uri = format!("http://127.0.0.1:9090{STATUS}");
        for held in ["application/grpc", "application/grpc+proto", "Application/gRPC"] {
            assert_eq!(asked(Version::HTTP_2, &uri, &[("content-type", held)]), 200, "{held}");
            let over_1 = [("content-type", held), ("host", "127.0.0.1:9090")];
            assert_eq!(asked(Version::HTTP_11, STATUS, &over_1), 505, "{held}");
        }
        for held in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpc;x=y",
            "",
        ] {
            assert_eq!(asked(Version::HTTP_2, &uri, &[("content-type", held)]), 415, "{held}");
        }
        assert_eq!(asked(Version::HTTP_2, &uri, &[]), 415);
        let twice = [("content-type", "text/plain"), ("content-type", "application/grpc")];
        assert_eq!(asked(Version::HTTP_2, &uri, &twice), 415);
    }
}
