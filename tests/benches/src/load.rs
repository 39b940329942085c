//! A client of the engine: many connections, no think time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{
    ExecutionStatus, HistoryRequest, ListRequest, SignalRequest, StartRequest, StatusRequest, WaitRequest,
    start_many_response,
};
use serde_json::Value;
use test_engine::Engine;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Some connections to one engine.
#[derive(Clone)]
pub(crate) struct Client {
    connections: Arc<Vec<Connection>>,
    next: Arc<AtomicUsize>,
}

type Connection = EngineClient<InterceptedService<Channel, Bearer>>;

/// Sends the client's token with each request, if it has one.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// Opens this many connections.
    pub(crate) async fn connect(engine: &Engine, connections: usize) -> anyhow::Result<Self> {
        Self::connect_to(engine.url(), connections, None).await
    }

    /// Opens this many connections to the engine at this address, with a token.
    pub(crate) async fn connect_to(url: &str, connections: usize, token: Option<&str>) -> anyhow::Result<Self> {
        let bearer = Bearer(token.map(|token| format!("Bearer {token}").parse()).transpose()?);
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
            channels.push(EngineClient::with_interceptor(endpoint.connect().await?, bearer.clone()));
        }
        Ok(Self { connections: Arc::new(channels), next: Arc::default() })
    }

    fn connection(&self) -> Connection {
        self.connections[self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len()].clone()
    }

    /// Starts an execution.
    pub(crate) async fn start(&self, workflow: &str, input: &str) -> anyhow::Result<String> {
        let started = self.connection().start(request(workflow, input)).await?.into_inner();
        Ok(started.execution_id)
    }

    /// Waits for the end of an execution; any end but completion is an error.
    pub(crate) async fn wait(&self, id: &str) -> anyhow::Result<ExecutionStatus> {
        let request = WaitRequest { execution_id: id.to_owned(), timeout_ms: None };
        let status = self.connection().wait(request).await?.into_inner();
        let word = status.summary.as_ref().map(|summary| summary.status.clone()).unwrap_or_default();
        anyhow::ensure!(word == "completed", "{id} is {word}: {:?}", status.failure);
        Ok(status)
    }

    /// Starts an execution and waits for its end.
    pub(crate) async fn run(&self, workflow: &str, input: &str) -> anyhow::Result<ExecutionStatus> {
        let id = self.start(workflow, input).await?;
        self.wait(&id).await
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, id: &str, name: &str) -> anyhow::Result<()> {
        let request = SignalRequest { execution_id: id.to_owned(), name: name.to_owned(), data: "null".to_owned() };
        self.connection().signal(request).await?;
        Ok(())
    }

    /// Runs many executions, a number of them at once, and returns how long all of them took.
    pub(crate) async fn run_many(
        &self,
        (workflow, output): (&'static str, Option<&'static str>),
        input: String,
        (count, at_once): (usize, usize),
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let left = Arc::new(AtomicUsize::new(count));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (client, left, input) = (self.clone(), left.clone(), input.clone());
            clients.spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let status = client.run(workflow, &input).await?;
                    anyhow::ensure!(status.output.as_deref() == output, "{workflow} says {:?}", status.output);
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
        Ok(began.elapsed())
    }

    /// Starts many executions in one call.
    pub(crate) async fn start_many(&self, workflow: &str, input: &str, count: usize) -> anyhow::Result<()> {
        self.start_all(vec![request(workflow, input); count]).await
    }

    /// Starts executions with these ids in one call.
    pub(crate) async fn start_these(&self, workflow: &str, input: &str, ids: &[String]) -> anyhow::Result<()> {
        let with = |id: &String| StartRequest { execution_id: Some(id.clone()), ..request(workflow, input) };
        self.start_all(ids.iter().map(with).collect()).await
    }

    async fn start_all(&self, requests: Vec<StartRequest>) -> anyhow::Result<()> {
        let wishes = futures::stream::iter(requests);
        let answer = self.connection().max_decoding_message_size(256 << 20).start_many(wishes).await?.into_inner();
        let refused = |result: &start_many_response::Result| {
            !matches!(result.result, Some(start_many_response::result::Result::Started(_)))
        };
        let refused = answer.results.iter().find(|result| refused(result));
        anyhow::ensure!(refused.is_none(), "not started: {refused:?}");
        Ok(())
    }

    /// The number of executions on a page, and the cursor of the next one.
    pub(crate) async fn page(&self, request: ListRequest) -> anyhow::Result<(usize, Option<String>)> {
        let page = self.connection().list(request).await?.into_inner();
        Ok((page.executions.len(), page.next))
    }

    /// The number of executions with this status.
    pub(crate) async fn count(&self, status: &str) -> anyhow::Result<usize> {
        let first = ListRequest { status: Some(status.to_owned()), limit: 1_000, ..ListRequest::default() };
        let (mut count, mut next) = self.page(first.clone()).await?;
        while next.is_some() {
            let (more, after) = self.page(ListRequest { cursor: next, ..first.clone() }).await?;
            count += more;
            next = after;
        }
        Ok(count)
    }

    /// The first event of each kind: its time in milliseconds, and its fields.
    pub(crate) async fn history(&self, id: &str) -> anyhow::Result<HashMap<String, (f64, Value)>> {
        let request = HistoryRequest { execution_id: id.to_owned(), ..HistoryRequest::default() };
        let mut events = self.connection().history(request).await?.into_inner();
        let mut first = HashMap::new();
        while let Some(event) = events.message().await? {
            let time = event.time.unwrap_or_default();
            let time = time.seconds as f64 * 1e3 + f64::from(time.nanos) / 1e6;
            first.entry(event.kind).or_insert((time, serde_json::from_str(&event.fields)?));
        }
        Ok(first)
    }

    /// The microseconds of calls that are answered without looking at anything.
    pub(crate) async fn empty_calls(&self, count: usize) -> Vec<f64> {
        let mut took = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            // An empty id is refused at once.
            let _ = self.connection().status(StatusRequest::default()).await;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        took
    }
}

fn request(workflow: &str, input: &str) -> StartRequest {
    StartRequest { workflow: workflow.to_owned(), input: input.to_owned(), ..StartRequest::default() }
}
