//! The services on the port: gRPC, health, reflection, `/healthz`, `/metrics`; and how the port closes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its tests share")]

use std::net::SocketAddr;
use std::time::Duration;

use cerebelum_server::{bind, proto};
use cerebelum_worker::{Config, Engine};
use proto::engine_client::EngineClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// An engine on a free port, its files in a folder of its own.
struct Served {
    address: SocketAddr,
    engine: Engine,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _data: tempfile::TempDir,
}

async fn served() -> Served {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(Config::new(data.path())).await.unwrap();
    let bound = bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).await.unwrap();
    let (address, of_server) = (bound.address(), engine.clone());
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move { bound.serve(of_server, async { drop(stopped.await) }).await });
    Served { address, engine, stop, serving, _data: data }
}

impl Served {
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> EngineClient<Channel> {
        EngineClient::new(self.channel().await)
    }

    /// The answer to an HTTP/1.1 request, head and body.
    async fn get(&self, path: &str, host: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(60), self.serving).await.unwrap().unwrap();
        self.engine.stop().await;
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    let status = answer.unwrap_err();
    assert!(!status.message().is_empty() && !status.message().contains('\n'), "{status:?}");
    status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_is_served_beside_grpc_and_only_under_names_of_this_machine() {
    let served = served().await;
    let ready = served.get("/healthz", "localhost:9090").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = served.get("/metrics", "127.0.0.1").await;
    assert!(metrics.contains("application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.contains("# TYPE cerebelum_"), "{metrics}");
    let rebound = served.get("/metrics", "evil.example").await;
    assert!(rebound.starts_with("HTTP/1.1 421") && !rebound.contains("cerebelum_"), "{rebound}");
    let nowhere = served.get("/nowhere", "localhost").await;
    assert!(nowhere.starts_with("HTTP/1.1 404") && nowhere.contains("REST at /v1/"), "{nowhere}");
    let components = served.client().await.components(proto::ComponentsRequest {}).await.unwrap();
    assert!(components.into_inner().components.is_empty());
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_know_the_engine() {
    let served = served().await;
    let mut health = HealthClient::new(served.channel().await);
    for service in ["", "cerebelum.v1.Engine"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        // The engine may not have been checked for the first time yet.
        let mut states = health.watch(request).await.unwrap().into_inner();
        while states.message().await.unwrap().unwrap().status != 1 {}
    }
    let mut reflection = ServerReflectionClient::new(served.channel().await);
    let wish = MessageRequest::FileContainingSymbol("cerebelum.v1.Engine".to_owned());
    let wish = ServerReflectionRequest { host: String::new(), message_request: Some(wish) };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(wish)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(answer, MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_code() {
    let served = served().await;
    let mut client = served.client().await;
    let nobody = || "nobody".to_owned();
    assert_eq!(code(client.status(proto::StatusRequest { execution_id: nobody() }).await), Code::NotFound);
    assert_eq!(code(client.status(proto::StatusRequest { execution_id: "a b".into() }).await), Code::InvalidArgument);
    assert_eq!(code(client.cancel(proto::CancelRequest { execution_id: nobody() }).await), Code::NotFound);
    assert_eq!(
        code(client.wait(proto::WaitRequest { execution_id: nobody(), timeout_ms: None }).await),
        Code::NotFound
    );
    let start = proto::StartRequest { workflow: "nothing".into(), ..Default::default() };
    assert_eq!(code(client.start(start.clone()).await), Code::NotFound);
    let watch = client.watch(proto::WatchRequest { execution_id: nobody() }).await.unwrap();
    assert_eq!(code(watch.into_inner().message().await), Code::NotFound);
    let history = proto::HistoryRequest { execution_id: nobody(), ..Default::default() };
    assert_eq!(code(client.history(history).await.unwrap().into_inner().message().await), Code::NotFound);
    assert_eq!(code(client.upload(tokio_stream::empty()).await), Code::InvalidArgument);
    let garbage = proto::UploadRequest { file_name: "x.wasm".into(), chunk: b"garbage".to_vec(), name: None };
    assert_eq!(code(client.upload(tokio_stream::once(garbage)).await), Code::FailedPrecondition);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_starts_each_is_answered_on_its_own() {
    let served = served().await;
    let mut bad = proto::StartRequest { workflow: "nothing".into(), ..Default::default() };
    let good = bad.clone();
    bad.attributes.insert("team".into(), "{".into());
    let answer = served.client().await.start_many(tokio_stream::iter([good.clone(), bad, good])).await.unwrap();
    let codes: Vec<_> = answer
        .into_inner()
        .results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            proto::start_many_response::result::Result::Refused(refused) => Code::from(refused.code),
            proto::start_many_response::result::Result::Started(_) => Code::Ok,
        })
        .collect();
    assert_eq!(codes, [Code::NotFound, Code::InvalidArgument, Code::NotFound]);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_larger_than_the_limit_is_refused_while_it_arrives() {
    let served = served().await;
    let piece = || proto::UploadRequest { chunk: vec![0; 4 << 19], ..Default::default() };
    let refused = served.client().await.upload(tokio_stream::iter((0..40).map(move |_| piece()))).await.unwrap_err();
    assert!(refused.message().contains("64 MiB"), "{refused:?}");
    served.close().await;
}
