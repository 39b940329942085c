//! Which requests leave and which do not, and that no message reveals a secret.

use std::collections::BTreeMap;

use cerebelum_store::TenantId;

use super::*;

const SECRET: &str = "hush/../?a=b&c#d@e:1 \u{e9}";

fn request(url: &str) -> HttpRequest {
    HttpRequest { method: "GET".into(), url: url.into(), headers: vec![], body: vec![], timeout_ms: None }
}

fn with_headers(headers: &[(&str, &str)]) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HttpRequest { headers, ..request("http://api.example.com/") }
}

fn leaving_with(request: HttpRequest, secret: &str) -> Result<Request<Full<Bytes>>, Failure> {
    leaving_as(request, (secret, &HostHeaders::of("the-key")))
}

fn leaving_as(request: HttpRequest, (secret, headers): (&str, &HostHeaders)) -> Result<Request<Full<Bytes>>, Failure> {
    let grants = Grants {
        tenant: TenantId::DEFAULT,
        hosts: vec!["api.example.com".into()],
        secrets: vec!["TOKEN".into(), "UNSET".into()],
        are_partial: false,
    };
    let permits = Permits::new(&["*".into()], vec![], None);
    let secrets = BTreeMap::from([("TOKEN".to_owned(), secret.to_owned())]);
    prepare(request, headers, &grants, (&permits, &Available::configured(&secrets)))
}

fn leaving(request: HttpRequest) -> Result<Request<Full<Bytes>>, Failure> {
    leaving_with(request, SECRET)
}

fn kind_of(request: HttpRequest) -> String {
    leaving(request).expect_err("it does not leave").kind
}

#[test]
fn secrets_stay_within_the_path_and_the_query() {
    let uri = leaving(request("https://api.example.com/a/{{secret:TOKEN}}/b?k={{secret:TOKEN}}&x=1#f")).unwrap();
    let expected = "https://api.example.com/a/hush%2F..%2F%3Fa=b&c%23d@e:1%20%C3%A9/b\
                    ?k=hush%2F..%2F%3Fa%3Db%26c%23d@e:1%20%C3%A9&x=1";
    assert_eq!(uri.uri(), expected);
    let built = leaving_with(with_headers(&[("authorization", "Bearer {{secret:TOKEN}}!")]), "s3cret").unwrap();
    assert_eq!(built.headers()["authorization"], "Bearer s3cret!");
    assert!(built.headers()["authorization"].is_sensitive());
}

#[test]
fn a_tenant_without_the_secret_is_told_how_it_gets_it() {
    let (hosts, secrets) = (vec!["api.example.com".into()], vec!["TOKEN".into()]);
    let grants = Grants { tenant: TenantId(7), hosts, secrets, are_partial: false };
    let permits = Permits::new(&["*".into()], vec![], None);
    let asked = with_headers(&[("authorization", "{{secret:TOKEN}}")]);
    let refused = prepare(asked, &HostHeaders::of("the-key"), &grants, (&permits, &Available::default())).unwrap_err();
    assert_eq!(refused.kind, kind::NOT_GRANTED);
    assert!(refused.message.contains("cerebelum secret set") && !refused.message.contains("CEREBELUM"), "{refused}");
}

#[test]
fn a_secret_in_any_other_place_is_refused_and_never_told() {
    let secret = "s3cret";
    let p = "{{secret:TOKEN}}";
    let places = [
        format!("{p}://api.example.com/"),
        format!("x{p}://api.example.com/"),
        format!("http://{p}/"),
        format!("http://{p}.example.com/"),
        format!("http://api.{p}/"),
        format!("http://[{p}]/"),
        format!("http://api.example.com:{p}/"),
        format!("http://api.example.com:80{p}/"),
        format!("http://{p}@api.example.com/"),
        format!("http://u:{p}@api.example.com/"),
        format!("http://api.example.com/#{p}"),
        format!("http://api.example.com{p}"),
        format!("http:{p}/x"),
        format!("http:/{p}"),
        format!("//{p}/"),
        p.to_owned(),
        format!("http://{p}/{p}?{p}#{p}"),
        "http://api.example.com/{{secret:UNSET}}".to_owned(),
        "http://api.example.com/{{secret:OTHER}}".to_owned(),
        format!("http://elsewhere.example.com/{p}"),
        format!("http://127.0.0.1/{p}"),
        format!("ftp://api.example.com/{p}"),
    ];
    let methods = [p.to_owned(), format!("GET{p}")];
    let headers = [(format!("x-{p}"), "v".to_owned()), ("host".to_owned(), p.to_owned())];
    let of_urls = places.iter().map(|url| request(url));
    let of_methods = methods.into_iter().map(|method| HttpRequest { method, ..request("http://api.example.com/") });
    let of_headers =
        headers.into_iter().map(|header| HttpRequest { headers: vec![header], ..request("http://api.example.com/") });
    for (secret, asked) in of_urls.chain(of_methods).chain(of_headers).flat_map(|asked| {
        // Secrets that would redirect the request to another valid place, and one that HTTP forbids.
        [secret, "127.0.0.1", "http", "80", "line\nbreak\u{7f}"].map(|secret| (secret, asked.clone()))
    }) {
        let failure = leaving_with(asked.clone(), secret).map(|built| format!("{built:?}")).expect_err(&asked.url);
        let told = failure.to_string().replace(&asked.url, "").replace("http nor https", "");
        let own = asked.url.contains(secret) || ["http", "80"].contains(&secret);
        assert!(own || !told.contains(secret), "{} told of `{secret}`: {told}", asked.url);
    }
}

#[test]
fn a_secret_that_http_forbids_is_not_told() {
    for secret in ["line\nbreak", "nul\0", "del\u{7f}"] {
        let failure = leaving_with(with_headers(&[("x-key", "{{secret:TOKEN}}")]), secret).unwrap_err();
        assert!(failure.kind == kind::INVALID_ARGUMENT && !failure.message.contains(secret), "{failure}");
    }
}

#[test]
fn placeholders_that_are_none_are_named() {
    for url in ["http://api.example.com/{{secret:TOKEN", "http://api.example.com/?{{secret:TOKEN}"] {
        let failure = leaving(request(url)).unwrap_err();
        assert!(failure.kind == kind::INVALID_ARGUMENT && failure.message.contains("not closed"), "{failure}");
    }
    assert_eq!(kind_of(with_headers(&[("x", "{{secret:OTHER}}")])), kind::NOT_GRANTED);
    assert_eq!(kind_of(with_headers(&[("x", "{{secret:UNSET}}")])), kind::NOT_GRANTED);
    // The replacement words may also occur in a URL.
    let built =
        leaving_with(request("http://api.example.com/placeholder0z/{{secret:TOKEN}}?placeholderx0z"), "s").unwrap();
    assert_eq!(built.uri(), "http://api.example.com/placeholder0z/s?placeholderx0z");
}

#[test]
fn what_exceeds_a_limit_is_refused_by_name() {
    let many = |count: usize| vec![("x-many".to_owned(), "v".to_owned()); count];
    let base = || request("http://api.example.com/");
    let long = |bytes: usize| "x".repeat(bytes);
    let beyond = [
        HttpRequest { headers: many(REQUEST_HEADERS_MAX + 1), ..base() },
        HttpRequest { headers: many(30_000), ..base() },
        HttpRequest { headers: vec![(long(HEADER_NAME_BYTES_MAX + 1), "v".into())], ..base() },
        HttpRequest { headers: vec![(long(100_000), "v".into())], ..base() },
        HttpRequest { headers: vec![("x".into(), long(HEADER_VALUE_BYTES_MAX + 1))], ..base() },
        HttpRequest { headers: vec![("x".into(), long(HEADER_VALUE_BYTES_MAX)); 3], ..base() },
        HttpRequest { method: long(METHOD_BYTES_MAX + 1), ..base() },
        HttpRequest { method: String::new(), ..base() },
        HttpRequest { method: "GE T".into(), ..base() },
        HttpRequest { method: "GET\r\nx: y".into(), ..base() },
        HttpRequest { body: vec![0; REQUEST_BODY_BYTES_MAX + 1], ..base() },
        HttpRequest { headers: vec![(String::new(), "v".into())], ..base() },
        HttpRequest { headers: vec![("x".into(), "a\r\nb: c".into())], ..base() },
        request(&format!("http://api.example.com/{}", long(URL_BYTES_MAX))),
        request("http://api.example.com:65536/"),
        request("http://api.example.com:99999999999999999999/"),
        request("http:///"),
        request("http://"),
        request(""),
        request("http://a b/"),
        request("http://[::1/"),
        request("http://user:pw@api.example.com/"),
        request("http://\u{0}/"),
    ];
    for asked in beyond {
        let failure = leaving(asked).expect_err("it does not leave");
        assert_eq!(failure.kind, kind::INVALID_ARGUMENT, "{failure}");
        assert!(failure.message.len() < 2_000 && !failure.message.contains(['\n', '\r']), "{failure}");
    }
    for within in [
        HttpRequest { headers: many(REQUEST_HEADERS_MAX), ..base() },
        HttpRequest { headers: vec![("x".into(), long(HEADER_VALUE_BYTES_MAX))], ..base() },
        HttpRequest { body: vec![0; REQUEST_BODY_BYTES_MAX], ..base() },
        HttpRequest { timeout_ms: Some(u64::MAX), ..base() },
        request("http://api.example.com/ü |^`{}<>\"'[]\\?ü |^`{}<>\"'[]\\"),
        request(&format!("http://api.example.com/{}", long(URL_BYTES_MAX - 30))),
    ] {
        let url = within.url.clone();
        assert_eq!(leaving(within).map(drop), Ok(()), "{url}");
    }
}

#[test]
fn what_belongs_to_the_connection_is_the_engines() {
    let dropped = HEADERS_DROPPED.map(|name| (name, "x"));
    let built = leaving(with_headers(&dropped)).unwrap();
    let names: Vec<_> = built.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["idempotency-key", "accept"]);
    let built = leaving(with_headers(&[("Host", "API.example.com"), ("accept", "text/plain")])).unwrap();
    assert!(!built.headers().contains_key("host"));
    assert_eq!(built.headers()["accept"], "text/plain");
    assert_eq!(kind_of(with_headers(&[("Host", "elsewhere.example.com")])), kind::INVALID_ARGUMENT);
    for method in ["CONNECT", "TRACE", "trace", "Connect", "TRACK", "PRI"] {
        let asked = HttpRequest { method: method.into(), ..request("http://api.example.com/") };
        assert_eq!(kind_of(asked), kind::INVALID_ARGUMENT, "{method}");
    }
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let asked = HttpRequest { method: method.into(), ..request("http://api.example.com/") };
        assert_eq!(leaving(asked).unwrap().method(), method);
    }
}

#[test]
fn the_key_is_the_engines_unless_the_guest_has_one() {
    assert_eq!(leaving(with_headers(&[])).unwrap().headers()["idempotency-key"], "the-key");
    let own = leaving(with_headers(&[("Idempotency-Key", "own")])).unwrap();
    assert_eq!(own.headers().get_all("idempotency-key").iter().collect::<Vec<_>>(), ["own"]);
}

#[test]
fn the_span_is_the_host_s_unless_the_guest_names_one() {
    let headers = HostHeaders {
        traceparent: Some("00-host-01".to_owned()),
        tracestate: Some("a=1".to_owned()),
        ..HostHeaders::of("the-key")
    };
    let sent = |own: &[(&str, &str)]| {
        let built = leaving_as(with_headers(own), (SECRET, &headers)).unwrap();
        let text = |name: &str| {
            let values = built.headers().get_all(name).iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join("|")
        };
        (text("traceparent"), text("tracestate"))
    };
    let is = |parent: &str, state: &str| (parent.to_owned(), state.to_owned());
    assert_eq!(sent(&[]), is("00-host-01", "a=1"));
    assert_eq!(sent(&[("Traceparent", "own")]), is("own", ""));
    assert_eq!(sent(&[("tracestate", "own")]), is("00-host-01", "own"));
    assert_eq!(leaving(with_headers(&[])).unwrap().headers().get("traceparent"), None);
    let many: Vec<_> = (0..REQUEST_HEADERS_MAX).map(|_| ("x", "y")).collect();
    assert_eq!(sent(&many).0, "00-host-01", "a request with as many headers as it may have leaves as before");
}

#[test]
fn secrets_do_not_make_a_small_request_a_large_one() {
    let secret = "s".repeat(16 << 10);
    let began = std::time::Instant::now();
    let place = "{{secret:TOKEN}}";
    let refused = |request| leaving_with(request, &secret).unwrap_err();
    let of_url = refused(request(&format!("http://api.example.com/{}", place.repeat(400))));
    let of_value = refused(with_headers(&[("a", &place.repeat(900))]));
    let all: Vec<_> = (0..100).map(|_| ("a", place)).collect();
    let of_headers = refused(with_headers(&all));
    for (why, part) in [(of_url, "the URL"), (of_value, "a header"), (of_headers, "the head")] {
        assert!(why.kind == kind::INVALID_ARGUMENT && why.message.contains(part), "{why}");
        assert!(why.message.contains("once its secrets are filled in"), "{why}");
    }
    assert!(began.elapsed().as_millis() < 500, "it stops where it is too much");
    assert!(leaving_with(with_headers(&[("a", "Bearer {{secret:TOKEN}}")]), &secret).is_ok());
}

#[test]
fn several_secrets_stand_where_they_belong() {
    let url = "http://api.example.com/{{secret:TOKEN}}/x/{{secret:TOKEN}}?a={{secret:TOKEN}}&b=1&c={{secret:TOKEN}}";
    let built = leaving_with(request(url), "p/q").unwrap();
    assert_eq!(built.uri(), "http://api.example.com/p%2Fq/x/p%2Fq?a=p%2Fq&b=1&c=p%2Fq");
}
