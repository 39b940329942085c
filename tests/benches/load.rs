//! A client of the engine: many connections, no think time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{ExecutionStatus, SignalRequest, StartRequest, WaitRequest};
use cerebelum_tests::Engine;
use tonic::transport::{Channel, Endpoint};

/// Some connections to one engine.
#[derive(Clone)]
pub(crate) struct Client {
    connections: Arc<Vec<EngineClient<Channel>>>,
    next: Arc<AtomicUsize>,
}

impl Client {
    /// Connects so many times.
    pub(crate) async fn connect(engine: &Engine, connections: usize) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(engine.url().to_owned())?.tcp_nodelay(true);
            channels.push(EngineClient::new(endpoint.connect().await?));
        }
        Ok(Self { connections: Arc::new(channels), next: Arc::default() })
    }

    fn connection(&self) -> EngineClient<Channel> {
        self.connections[self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len()].clone()
    }

    /// Starts an execution.
    pub(crate) async fn start(&self, workflow: &str, input: &str) -> anyhow::Result<String> {
        let request =
            StartRequest { workflow: workflow.to_owned(), input: input.to_owned(), ..StartRequest::default() };
        let started = self.connection().start(request).await?.into_inner();
        Ok(started.execution_id)
    }

    /// Waits for its end; anything but completion is an error.
    pub(crate) async fn wait(&self, id: &str) -> anyhow::Result<ExecutionStatus> {
        let request = WaitRequest { execution_id: id.to_owned(), timeout_ms: None };
        let status = self.connection().wait(request).await?.into_inner();
        let word = status.summary.as_ref().map(|summary| summary.status.clone()).unwrap_or_default();
        anyhow::ensure!(word == "completed", "{id} is {word}: {:?}", status.failure);
        Ok(status)
    }

    /// Starts one and waits for its end.
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

    /// Runs so many executions, so many at once, and says how long all of them took.
    pub(crate) async fn run_many(
        &self,
        workflow: &'static str,
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
                    client.run(workflow, &input).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
        Ok(began.elapsed())
    }
}
