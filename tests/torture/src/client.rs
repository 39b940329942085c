//! A client that remembers every answer, and knows when it got none.

use std::time::Duration;

use cerebelum_server::proto;
use cerebelum_server::proto::engine_client::EngineClient;
use tonic::transport::{Channel, Endpoint};

/// After this time without an answer, a call has none.
const PATIENCE: Duration = Duration::from_secs(10);

/// The result of a call.
#[derive(Debug)]
pub(crate) enum Told<T> {
    /// The engine acknowledged it: it must never be lost.
    Yes(T),
    /// It was refused, for this reason.
    No(String),
    /// Unknown: the engine died meanwhile, or is not there.
    Nothing,
}

/// A connection to one life of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Client(EngineClient<Channel>);

impl Client {
    /// Connects; none when the engine died before there was a connection.
    pub(crate) async fn connect(url: &str) -> Option<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned()).ok()?.tcp_nodelay(true);
        Some(Self(EngineClient::new(endpoint.connect().await.ok()?)))
    }

    /// Starts an execution.
    pub(crate) async fn start(&self, workflow: &str, input: String, id: &str) -> Told<proto::Summary> {
        let request = proto::StartRequest {
            workflow: workflow.to_owned(),
            input,
            execution_id: Some(id.to_owned()),
            ..proto::StartRequest::default()
        };
        told(self.0.clone().start(request)).await
    }

    /// Approves a question.
    pub(crate) async fn approve(&self, id: &str, data: String) -> Told<proto::DecideResponse> {
        let request = proto::ApproveRequest { id: id.to_owned(), data, comment: None, by: "torture".to_owned() };
        told(self.0.clone().approve(request)).await
    }

    /// Rejects a question.
    pub(crate) async fn reject(&self, id: &str, reason: &str) -> Told<proto::DecideResponse> {
        let request = proto::RejectRequest { id: id.to_owned(), reason: reason.to_owned(), by: "torture".to_owned() };
        told(self.0.clone().reject(request)).await
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, id: &str, name: &str, data: String) -> Told<proto::SignalResponse> {
        let request = proto::SignalRequest { execution_id: id.to_owned(), name: name.to_owned(), data };
        told(self.0.clone().signal(request)).await
    }

    /// Cancels an execution.
    pub(crate) async fn cancel(&self, id: &str) -> Told<proto::CancelResponse> {
        told(self.0.clone().cancel(proto::CancelRequest { execution_id: id.to_owned() })).await
    }

    /// Pauses an execution.
    pub(crate) async fn pause(&self, id: &str) -> Told<proto::PauseResponse> {
        told(self.0.clone().pause(proto::PauseRequest { execution_id: id.to_owned() })).await
    }

    /// Resumes an execution.
    pub(crate) async fn resume(&self, id: &str) -> Told<proto::ResumeResponse> {
        told(self.0.clone().resume(proto::ResumeRequest { execution_id: id.to_owned(), force: true })).await
    }

    /// A page of executions, the newest first.
    pub(crate) async fn list(&self, cursor: Option<String>, limit: u32) -> Told<proto::ListResponse> {
        let request = proto::ListRequest { cursor, limit, ..proto::ListRequest::default() };
        told(self.0.clone().list(request)).await
    }

    /// The executions that are parked because engines died while they ran.
    pub(crate) async fn parked_after_crashes(&self) -> Vec<String> {
        let request = proto::ListRequest { status: Some("parked".to_owned()), ..proto::ListRequest::default() };
        let Told::Yes(page) = told(self.0.clone().list(request)).await else { return Vec::new() };
        let mut ids = Vec::new();
        for execution_id in page.executions.into_iter().map(|summary| summary.execution_id) {
            let request = proto::StatusRequest { execution_id: execution_id.clone() };
            if let Told::Yes(status) = told(self.0.clone().status(request)).await
                && status.failure.is_some_and(|failure| failure.kind == "engine-crash")
            {
                ids.push(execution_id);
            }
        }
        ids
    }

    /// The summary of one execution, as in a list.
    pub(crate) async fn summary(&self, id: &str) -> Told<proto::Summary> {
        match told(self.0.clone().status(proto::StatusRequest { execution_id: id.to_owned() })).await {
            Told::Yes(status) => status.summary.map_or(Told::Nothing, Told::Yes),
            Told::No(why) => Told::No(why),
            Told::Nothing => Told::Nothing,
        }
    }

    /// All events of an execution's current run, as far as they came.
    pub(crate) async fn history(&self, id: &str) -> Vec<proto::Event> {
        let request = proto::HistoryRequest { execution_id: id.to_owned(), ..proto::HistoryRequest::default() };
        let mut events = Vec::new();
        if let Told::Yes(mut stream) = told(self.0.clone().history(request)).await {
            while let Ok(Ok(Some(event))) = tokio::time::timeout(PATIENCE, stream.message()).await {
                events.push(event);
            }
        }
        events
    }

    /// The texts of an execution's log lines.
    pub(crate) async fn logs(&self, id: &str) -> Vec<String> {
        let request = proto::LogsRequest { execution_id: id.to_owned(), ..proto::LogsRequest::default() };
        let mut lines = Vec::new();
        if let Told::Yes(mut stream) = told(self.0.clone().logs(request)).await {
            while let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, stream.message()).await {
                lines.push(line.text);
            }
        }
        lines
    }
}

async fn told<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Told<T> {
    use tonic::Code;
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Told::Yes(answer.into_inner()),
        Ok(Err(status)) => match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => Told::No(status.message().to_owned()),
            _ => Told::Nothing,
        },
        Err(_) => Told::Nothing,
    }
}
