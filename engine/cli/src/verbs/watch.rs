//! Following an execution: a live picture on a terminal, a line for each change elsewhere.

use std::time::Duration;

use cerebelum_server::{json, proto};
use tonic::Status;

use super::Asking;
use super::start::ended_well;
use crate::client::{Client, Patience, has_ended};
use crate::exit::Outcome;
use crate::out::size;
use crate::render::{Live, Looks, Now, changes, execution};

/// How often a live picture is drawn: durations tick, the spinner turns.
const PICTURE_INTERVAL: Duration = Duration::from_millis(100);

type Changes = tonic::Streaming<proto::ExecutionStatus>;

impl Asking {
    /// Follows an execution until it has ended.
    pub(crate) async fn watch(&self, id: &str) -> Outcome {
        let mut client = self.client().await?;
        let status = self.follow(&mut client, id).await?;
        ended_well(&status)
    }

    /// Follows an execution to its end, whatever the end is.
    pub(super) async fn follow(&self, client: &mut Client, id: &str) -> Outcome<proto::ExecutionStatus> {
        match self.out.is_terminal && !self.global.json {
            true => self.follow_live(client, id).await,
            false => self.follow_in_lines(client, id).await,
        }
    }

    async fn follow_in_lines(&self, client: &mut Client, id: &str) -> Outcome<proto::ExecutionStatus> {
        let (mut watched, mut last) = (Watched::new(client.clone(), id), None);
        loop {
            let status = watched.next().await?;
            let lines = match self.global.json {
                true if last.as_ref() != Some(&status) => vec![json::status(&status)],
                true => vec![],
                false => changes(last.as_ref(), &status, Now::measured()),
            };
            for line in lines {
                self.out.say(&line)?;
            }
            if has_ended(&status) {
                return Ok(status);
            }
            last = Some(status);
        }
    }

    async fn follow_live(&self, client: &mut Client, id: &str) -> Outcome<proto::ExecutionStatus> {
        let mut watched = Watched::new(client.clone(), id);
        let mut live = Live::new(std::io::stdout(), self.out.colours);
        let mut status = watched.next().await?;
        let mut clock = tokio::time::interval(PICTURE_INTERVAL);
        for picture in 0.. {
            let looks = Looks { now: Now::measured(), picture: Some(picture), in_full: false };
            live.draw(&execution(&status, looks), size())?;
            if has_ended(&status) {
                break;
            }
            tokio::select! {
                next = watched.next() => status = next?,
                _ = clock.tick() => {}
            }
        }
        Ok(status)
    }
}

/// The changes of an execution, over restarts of its engine.
struct Watched {
    client: Client,
    id: String,
    stream: Option<Changes>,
    patience: Patience,
}

impl Watched {
    fn new(client: Client, id: &str) -> Self {
        Self { client, id: id.to_owned(), stream: None, patience: Patience::default() }
    }

    /// The next status. May be dropped while it waits: nothing is lost.
    async fn next(&mut self) -> Outcome<proto::ExecutionStatus> {
        loop {
            match self.receive().await {
                Ok(status) => {
                    self.patience = Patience::default();
                    return Ok(status);
                }
                Err(status) => {
                    self.stream = None;
                    self.patience.outlast(&self.client, &status).await?;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<proto::ExecutionStatus, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request = proto::WatchRequest { execution_id: self.id.clone() };
                self.stream.insert(self.client.engine.watch(request).await?.into_inner())
            }
        };
        // A stream that ends before the execution has was cut off by an engine that stops.
        stream.message().await?.ok_or_else(|| Status::unavailable("the engine ended the stream"))
    }
}
