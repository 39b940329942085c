//! Hints about executions that a message may have moved. They are sent within the process, and to other nodes by
//! NOTIFY.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;

use crate::connections::{Connections, Server};
use crate::database::{Database, on_server};
use crate::model::{ExecutionKey, Incarnation, TenantId};
use crate::sql::{Session, Statement};

/// The channel on which the nodes of one database notify each other. A payload is the sender, then one `tenant id` per
/// line.
const CHANNEL: &str = "cerebelum_moved";
/// PostgreSQL accepts payloads of less than 8,000 bytes.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// A receiver that is further behind loses hints, which does no harm.
const HINTS_MAX: usize = 8_192;
/// The pause before listening again after the connection broke for good.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// An execution that a message may have moved, and the incarnation that had claimed it.
#[derive(Debug, Clone)]
pub(crate) struct InboxNotice {
    pub(crate) key: ExecutionKey,
    pub(crate) owner: Option<Incarnation>,
}

/// Sends hints after the commit (L10).
pub(crate) struct Hints {
    here: broadcast::Sender<ExecutionKey>,
    elsewhere: Option<mpsc::UnboundedSender<ExecutionKey>>,
    /// The incarnation of this process, or 0 if it has none.
    own: AtomicI64,
    running: Vec<AbortHandle>,
}

impl Hints {
    /// Starts to listen if the database has other users.
    pub(crate) fn new(database: &Database) -> Self {
        let here = broadcast::Sender::new(HINTS_MAX);
        let own = AtomicI64::new(0);
        match database {
            Database::Sqlite { .. } => Self { here, elsewhere: None, own, running: Vec::new() },
            Database::Postgres { pool, listening, .. } => {
                let (elsewhere, run) = mpsc::unbounded_channel();
                // A random sender number, so that two processes are unlikely to share one.
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

    /// Sets the incarnation of this process. Messages to executions that it has claimed are not sent to other nodes.
    pub(crate) fn begin(&self, incarnation: Incarnation) {
        self.own.store(incarnation.0, Ordering::Relaxed);
    }

    /// Sends hints about executions that received a message.
    pub(crate) fn tell(&self, moved: impl IntoIterator<Item = InboxNotice>) {
        let own = self.own.load(Ordering::Relaxed);
        for InboxNotice { key, owner } in moved {
            if let Some(elsewhere) = &self.elsewhere
                && owner != Some(Incarnation(own))
            {
                let _ = elsewhere.send(key.clone());
            }
            // An error only means that there is no receiver.
            let _ = self.here.send(key);
        }
    }

    /// Notifies other nodes, and returns when that is done.
    pub(crate) async fn tell_elsewhere_now(database: &Database, key: Option<ExecutionKey>) {
        let (Database::Postgres { pool, .. }, Some(key)) = (database, key) else { return };
        // No process has the number 0, so every listener takes the hint.
        for payload in payloads(0, &BTreeSet::from([key])) {
            send(pool, payload).await;
        }
    }

    /// Sends hints, in this process only, about new executions that have no owner yet.
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

/// Sends notifications. Hints that arrive while a NOTIFY is under way are combined into the next one.
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
