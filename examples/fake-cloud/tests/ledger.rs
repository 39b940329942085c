//! The service as its clients see it, over real sockets.

use fake_cloud::{Config, FakeCloud};
use http::request::Builder;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

async fn start(config: Config) -> FakeCloud {
    let listen = "127.0.0.1:0".parse().expect("this is an address");
    FakeCloud::start(listen, config).await.expect("a free port can be listened on")
}

async fn ask(cloud: &FakeCloud, method: Method, path: &str) -> (u16, String) {
    send(cloud, Request::builder().method(method), path, "").await
}

async fn send(cloud: &FakeCloud, request: Builder, path: &str, body: &'static str) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<&[u8]>>();
    let request = request.uri(format!("{}{path}", cloud.base_url())).body(Full::new(body.as_bytes()));
    let answer = client.request(request.expect("a request that makes sense")).await.expect("it answers");
    let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.expect("it answers in full"));
    (status, String::from_utf8(body.to_bytes().into()).expect("its answers are text"))
}

#[tokio::test]
async fn things_get_ready_after_so_many_looks_and_ssh_answers_after_so_many_refusals() {
    let cloud = start(Config { ready_after: 2, refuse: 1, ledger: None }).await;
    assert_eq!(ask(&cloud, Method::GET, "/droplets/1").await.0, 404);
    ask(&cloud, Method::POST, "/droplets").await;
    ask(&cloud, Method::POST, "/builds?outcome=failure&ready_after=0").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let droplet: Value = serde_json::from_str(&ask(&cloud, Method::GET, "/droplets/1").await.1).unwrap();
        seen.push(droplet["ip"].clone());
    }
    assert_eq!(seen, [Value::Null, Value::from("203.0.113.1")]);
    assert!(ask(&cloud, Method::GET, "/builds/1").await.1.contains("tests failed"));
    let refused = ask(&cloud, Method::POST, "/ssh/203.0.113.1").await.0;
    let accepted = ask(&cloud, Method::POST, "/ssh/203.0.113.1").await.0;
    assert_eq!((refused, accepted), (503, 200));
}

#[tokio::test]
async fn databases_and_deployments_get_ready_and_some_articles_are_not_there() {
    let cloud = start(Config { ready_after: 1, refuse: 1, ledger: None }).await;
    for (kind, not_yet, ready) in [("databases", "false", "true"), ("deployments", "starting", "healthy")] {
        assert_eq!(ask(&cloud, Method::POST, &format!("/{kind}")).await.0, 201);
        let path = format!("/{kind}/1");
        assert!(ask(&cloud, Method::GET, &path).await.1.contains(not_yet));
        assert!(ask(&cloud, Method::GET, &path).await.1.contains(ready));
    }
    assert_eq!(ask(&cloud, Method::POST, "/databases/1/migrate").await.0, 204);
    let order = async |article: &str| ask(&cloud, Method::POST, &format!("/orders/{article}")).await;
    assert_eq!(order("common").await, (201, "1".to_owned()));
    assert_eq!(order("rare-one").await, (409, "back soon".to_owned()));
    assert_eq!(order("rare-one").await, (201, "2".to_owned()));
    assert_eq!(
        (order("gone").await, order("gone").await.1),
        ((409, "out of stock".to_owned()), "out of stock".to_owned())
    );
}

#[tokio::test]
async fn every_request_stands_in_the_ledger_also_repeated_ones() {
    let cloud = start(Config::default()).await;
    for _ in 0..2 {
        let mail = Request::builder().method(Method::POST).header("Idempotency-Key", "k");
        send(&cloud, mail, "/mails", "hi").await;
    }
    let told: Vec<std::sync::Arc<fake_cloud::Entry>> =
        serde_json::from_str(&ask(&cloud, Method::GET, "/ledger").await.1).unwrap();
    assert_eq!(told, cloud.ledger());
    let mails: Vec<_> = told.iter().map(|e| (e.number, e.body.as_str(), e.idempotency_key.as_deref())).collect();
    assert_eq!(mails, [(1, "hi", Some("k")), (2, "hi", Some("k"))]);
}

#[tokio::test]
async fn a_restarted_service_goes_on_with_its_ledger() {
    let file = std::env::temp_dir().join(format!("fake-cloud-{}.jsonl", std::process::id()));
    let config = Config { ledger: Some(file.clone()), ..Config::default() };
    let first = start(config.clone()).await;
    assert_eq!(ask(&first, Method::POST, "/switch/a").await.0, 503);
    ask(&first, Method::PUT, "/switch/a/on").await;
    drop(first);
    let second = start(config).await;
    assert_eq!(ask(&second, Method::POST, "/switch/a").await.0, 200);
    assert_eq!(second.ledger().len(), 3);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn worlds_know_nothing_of_each_other_and_share_the_ledger() {
    let cloud = start(Config::default()).await;
    for (path, number) in [("/of/a/mails", "1"), ("/of/b/mails", "1"), ("/of/a/mails", "2"), ("/mails", "1")] {
        assert_eq!(ask(&cloud, Method::POST, path).await.1, number, "{path}");
    }
    let told: Value = serde_json::from_str(&ask(&cloud, Method::GET, "/ledger?after=2").await.1).unwrap();
    let told: Vec<_> = told.as_array().unwrap().iter().map(|entry| (&entry["number"], &entry["world"])).collect();
    assert_eq!(told, [(&Value::from(3), &Value::from("a")), (&Value::from(4), &Value::Null)]);
}
