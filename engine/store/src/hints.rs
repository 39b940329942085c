//! Hints about executions that a message may have moved: told within the process, and to other nodes by NOTIFY.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;

use crate::connections::{Connections, Server};
use crate::database::{Database, on_server};
use crate::sql::{Session, Statement};
use crate::{ExecutionKey, Incarnation, TenantId};

/// Where nodes of one database tell each other. A payload is the teller, then one `tenant id` a line.
const CHANNEL: &str = "cerebelum_moved";
/// PostgreSQL takes payloads below 8,000 bytes.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// Receivers that are further behind lose hints, which are only hints.
const HINTS_MAX: usize = 8_192;
/// Pause before listening again after the connection broke for good.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// An execution that a message may have moved, and who had claimed it.
#[derive(Debug, Clone)]
pub(crate) struct InboxNotice {
    pub(crate) key: ExecutionKey,
    pub(crate) owner: Option<Incarnation>,
}

/// Tells who may want to know, after the commit (L10).
pub(crate) struct Hints {
    here: broadcast::Sender<ExecutionKey>,
    elsewhere: Option<mpsc::UnboundedSender<ExecutionKey>>,
    /// The incarnation that this process runs under; 0 while there is none.
    own: AtomicI64,
    running: Vec<AbortHandle>,
}

impl Hints {
    /// Begins to listen, where the database has other users.
    pub(crate) fn new(database: &Database) -> Self {
        let here = broadcast::Sender::new(HINTS_MAX);
        let own = AtomicI64::new(0);
        match database {
            Database::Sqlite { .. } => Self { here, elsewhere: None, own, running: Vec::new() },
            Database::Postgres { pool, listening, .. } => {
                let (elsewhere, run) = mpsc::unbounded_channel();
                // Any number that two processes are unlikely to share.
                let teller = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), CHANNEL);
                let running = vec![
                    tokio::spawn(notify(pool.clone(), teller, run)).abort_handle(),
                    tokio::spawn(listen(listening.clone(), teller, here.clone())).abort_handle(),
                ];
                Self { here, elsewhere: Some(elsewhere), own, running }
            }
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ExecutionKey> {
        self.here.subscribe()
    }

    /// Messages to what this incarnation has claimed concern nobody else.
    pub(crate) fn begin(&self, incarnation: Incarnation) {
        self.own.store(incarnation.0, Ordering::Relaxed);
    }

    /// Tells of executions that got a message.
    pub(crate) fn tell(&self, moved: impl IntoIterator<Item = InboxNotice>) {
        let own = self.own.load(Ordering::Relaxed);
        for InboxNotice { key, owner } in moved {
            if let Some(elsewhere) = &self.elsewhere
                && owner != Some(Incarnation(own))
            {
                let _ = elsewhere.send(key.clone());
            }
            // Nobody may be listening, and that is fine.
            let _ = self.here.send(key);
        }
    }

    /// Tells other nodes, and returns when they are told.
    pub(crate) async fn tell_elsewhere_now(database: &Database, key: Option<ExecutionKey>) {
        let (Database::Postgres { pool, .. }, Some(key)) = (database, key) else { return };
        // Nobody is called 0: all that listen hear it.
        for payload in payloads(0, &BTreeSet::from([key])) {
            send(pool, payload).await;
        }
    }

    /// Tells, in this process only, of executions that are new and belong to nobody yet.
    pub(crate) fn tell_here(&self, keys: impl IntoIterator<Item = ExecutionKey>) {
        for key in keys {
            let _ = self.here.send(key);
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        for running in &self.running {
            running.abort();
        }
    }
}

/// Gathers what is told while a NOTIFY is under way into the next one.
async fn notify(pool: Connections<Server>, teller: u64, mut run: mpsc::UnboundedReceiver<ExecutionKey>) {
    let mut keys = Vec::new();
    while run.recv_many(&mut keys, HINTS_MAX).await > 0 {
        let distinct: BTreeSet<ExecutionKey> = keys.drain(..).collect();
        for payload in payloads(teller, &distinct) {
            send(&pool, payload).await;
        }
    }
}

async fn send(pool: &Connections<Server>, payload: String) {
    static NOTIFY: Statement = Statement::new("select pg_notify($1, $2)");
    let sent = async {
        let mut session = Session::new(on_server(pool).await?);
        session.rows(&NOTIFY, &[CHANNEL.into(), payload.as_str().into()]).await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, "other nodes were not notified; their poll will find it");
    }
}

fn payloads(teller: u64, keys: &BTreeSet<ExecutionKey>) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for key in keys {
        let line = format!("\n{} {}", key.tenant.0, key.id);
        match payloads.last_mut().filter(|payload| payload.len() + line.len() <= PAYLOAD_BYTES_MAX) {
            Some(payload) => payload.push_str(&line),
            None => payloads.push(format!("{teller}{line}")),
        }
    }
    payloads
}

async fn listen(pool: PgPool, teller: u64, here: broadcast::Sender<ExecutionKey>) {
    loop {
        if let Err(error) = listen_once(&pool, teller, &here).await {
            tracing::debug!(%error, "not listening to other nodes for a moment");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

async fn listen_once(pool: &PgPool, teller: u64, here: &broadcast::Sender<ExecutionKey>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notification = listener.recv().await?;
        let mut lines = notification.payload().lines();
        if lines.next() == Some(teller.to_string().as_str()) {
            continue;
        }
        for key in lines.filter_map(key) {
            let _ = here.send(key);
        }
    }
}

fn key(line: &str) -> Option<ExecutionKey> {
    let (tenant, id) = line.split_once(' ')?;
    Some(ExecutionKey { tenant: TenantId(tenant.parse().ok()?), id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_are_told_in_few_payloads_that_fit() {
        let keys: BTreeSet<_> = (0..1000)
            .map(|n| ExecutionKey { tenant: TenantId(1), id: format!("execution-{n:04}").parse().unwrap() })
            .collect();
        let payloads = payloads(7, &keys);
        assert!(payloads.len() < 5 && payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let read: BTreeSet<_> = payloads.iter().flat_map(|payload| payload.lines().skip(1).filter_map(key)).collect();
        assert_eq!(read, keys);
    }
}
