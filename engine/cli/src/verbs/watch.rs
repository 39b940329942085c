//! Follows an execution: with a live view on a terminal, and with a line for each change elsewhere.

use std::time::{Duration, Instant};

use cerebelum_server::{json, proto};
use tokio::sync::mpsc;
use tonic::Status;

use super::ApiCommand;
use super::start::ended_well;
use crate::client::{Client, ReconnectBackoff, has_ended};
use crate::exit::{CliError, Outcome};
use crate::out::{note, size};
use crate::render::{Live, Now, RenderOptions, changes, execution};

/// The time between two frames of a live view: durations tick, the spinner turns.
const PICTURE_INTERVAL: Duration = Duration::from_millis(100);
/// The number of changes that may wait to be shown.
const CHANGES_MAX: usize = 16;

type Changes = tonic::Streaming<proto::ExecutionStatus>;

impl ApiCommand {
    /// Follows an execution until it has ended.
    pub(crate) async fn watch(&self, id: &str) -> Outcome {
        let mut client = self.client().await?;
        let status = self.follow(&mut client, id).await?;
        ended_well(&status)
    }

    /// Follows an execution to its end, whatever its result.
    pub(super) async fn follow(&self, client: &mut Client, id: &str) -> Outcome<proto::ExecutionStatus> {
        let watched = Watched::begin(client.clone(), id);
        match self.out.is_terminal && !self.global.json {
            true => self.follow_live(watched).await,
            false => self.follow_in_lines(watched).await,
        }
    }

    async fn follow_in_lines(&self, mut watched: Watched) -> Outcome<proto::ExecutionStatus> {
        let (mut last, mut is_away) = (None, false);
        loop {
            let status = match watched.next().await? {
                Seen::Away(since) => {
                    if !std::mem::replace(&mut is_away, true) && !self.global.json {
                        let since = json::rfc3339(&since.timestamp());
                        note(&format!("{since}  engine not reachable, trying again"));
                    }
                    continue;
                }
                Seen::Status(status) => *status,
            };
            if std::mem::take(&mut is_away) && !self.global.json {
                note(&format!("{}  engine reached again", json::rfc3339(&Now::measured().timestamp())));
            }
            let lines = match self.global.json {
                true if last.as_ref() != Some(&status) => vec![json::of(&status)],
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

    async fn follow_live(&self, mut watched: Watched) -> Outcome<proto::ExecutionStatus> {
        let mut live = Live::new(std::io::stdout(), self.out.colours);
        // The last moment at which the state of the execution was known.
        let (mut status, mut known) = (None, Now::measured());
        let mut away: Option<Instant> = None;
        let mut clock = tokio::time::interval(PICTURE_INTERVAL);
        for picture in 0.. {
            let away_for = away.map(|since| since.elapsed());
            known = if away_for.is_none() { Now::measured() } else { known };
            if let Some(status) = &status {
                // While the engine is away, the state of its executions is unknown: no time counts on, and the spinner
                // stops.
                let picture = away_for.is_none().then_some(picture);
                let looks = RenderOptions { picture, away: away_for, ..RenderOptions::at(known) };
                live.draw(&execution(status, looks), size())?;
            }
            if status.as_ref().is_some_and(has_ended) {
                break;
            }
            tokio::select! {
                next = watched.next() => match next? {
                    Seen::Status(new) => (status, away) = (Some(*new), None),
                    Seen::Away(_) => away = away.or_else(|| Some(Instant::now())),
                },
                _ = clock.tick() => {}
            }
        }
        Ok(status.unwrap_or_default())
    }
}

/// News about an execution.
enum Seen {
    /// Its current status.
    Status(Box<proto::ExecutionStatus>),
    /// The engine went away at this moment, and the client tries to reach it.
    Away(Now),
}

/// The changes of an execution, across restarts of its engine.
struct Watched {
    seen: mpsc::Receiver<Outcome<Seen>>,
}

impl Watched {
    fn begin(client: Client, id: &str) -> Self {
        let (sender, seen) = mpsc::channel(CHANGES_MAX);
        // The task ends when the receiver is dropped.
        tokio::spawn(watch(client, id.to_owned(), sender));
        Self { seen }
    }

    /// The next news. The future may be dropped while it waits: nothing is lost.
    async fn next(&mut self) -> Outcome<Seen> {
        let gone = || Err(CliError::failed("watching broke off; try again"));
        self.seen.recv().await.unwrap_or_else(gone)
    }
}

async fn watch(mut client: Client, id: String, sender: mpsc::Sender<Outcome<Seen>>) {
    let (mut stream, mut patience) = (None, ReconnectBackoff::default());
    loop {
        let seen = match receive(&mut client, &id, &mut stream).await {
            Ok(status) => {
                patience = ReconnectBackoff::default();
                Ok(Seen::Status(Box::new(status)))
            }
            Err(status) => {
                stream = None;
                let since = Now::measured();
                patience.bears(&client, &status).map(|()| Seen::Away(since))
            }
        };
        let (is_away, is_last) = match &seen {
            Ok(Seen::Away(_)) => (true, false),
            Ok(Seen::Status(status)) => (false, has_ended(status)),
            Err(_) => (false, true),
        };
        if sender.send(seen).await.is_err() || is_last {
            return;
        }
        if is_away {
            ReconnectBackoff::pause().await;
        }
    }
}

async fn receive(
    client: &mut Client,
    id: &str,
    stream: &mut Option<Changes>,
) -> Result<proto::ExecutionStatus, Status> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let request = proto::WatchRequest { execution_id: id.to_owned() };
            stream.insert(client.engine.watch(request).await?.into_inner())
        }
    };
    // A stream that ends before the execution was cut off by an engine that stops.
    stream.message().await?.ok_or_else(|| Status::unavailable("the engine ended the stream"))
}
