//! A wire to a server that reads its traffic: cut around a COMMIT, slowed down, or dead, as a test wants.

mod frames;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use frames::{Frame, Reader, Startup};

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The COMMIT does not reach the server.
    BeforeCommit,
    /// The server has committed, and its answer is lost.
    AfterCommit,
}

/// What happens to connections from now on.
#[derive(Debug, Default)]
struct Trouble {
    /// The COMMITs to come that are cut, in order.
    cuts: Mutex<std::collections::VecDeque<Cut>>,
    delay_ms: AtomicU64,
    /// Whether the server stays away after the next cut.
    stays_down: AtomicBool,
    /// Counts how often all connections were cut.
    severed: watch::Sender<u32>,
    is_down: watch::Sender<bool>,
}

/// A wire. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Wire {
    url: String,
    trouble: Arc<Trouble>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Wire {
    /// A wire to this database.
    ///
    /// # Panics
    /// When the address is not valid, or no port is free.
    #[must_use]
    pub fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().expect("the address of a PostgreSQL database");
        let server = (options.get_host().to_owned(), options.get_port());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback interface");
        let address: SocketAddr = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be made not to block");
        let trouble = Arc::new(Trouble::default());
        runtime.spawn(accept(listener, server, trouble.clone()));
        let url = options.host("127.0.0.1").port(address.port()).to_url_lossy().to_string();
        Self { url, trouble, runtime: Some(runtime) }
    }

    /// The database's address over this wire.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts the connections of the next COMMITs of any session, in this order.
    pub fn cut_next_commits(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.trouble.cuts().extend(cuts);
    }

    /// The number of these cuts that are still to come.
    #[must_use]
    pub fn cuts_left(&self) -> usize {
        self.trouble.cuts().len()
    }

    /// Cuts the connection of the next COMMIT, and takes the server away at the same time until it is put back.
    pub fn cut_next_commit_and_stay_down(&self, cut: Cut) {
        self.trouble.stays_down.store(true, Ordering::SeqCst);
        self.cut_next_commits([cut]);
    }

    /// Delays each statement by this time before it reaches the server; zero ends that.
    pub fn delay_statements(&self, delay: Duration) {
        self.trouble.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Cuts all connections; new ones are carried.
    pub fn sever(&self) {
        self.trouble.sever();
    }

    /// Takes the server away: connections are cut and new ones end at once, until it is put back.
    pub fn take_down(&self) {
        self.trouble.take_down();
    }

    /// Whether the server is away.
    #[must_use]
    pub fn is_down(&self) -> bool {
        *self.trouble.is_down.borrow()
    }

    /// Puts the server back.
    pub fn put_back(&self) {
        self.trouble.is_down.send_replace(false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which tests inside tokio must not do.
            runtime.shutdown_background();
        }
    }
}

impl Trouble {
    fn sever(&self) {
        self.severed.send_modify(|times| *times += 1);
    }

    fn take_down(&self) {
        self.is_down.send_replace(true);
        self.sever();
    }

    /// A connection was cut.
    fn was_cut(&self) {
        if self.stays_down.swap(false, Ordering::SeqCst) {
            self.take_down();
        }
    }

    fn cuts(&self) -> std::sync::MutexGuard<'_, std::collections::VecDeque<Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hold_back(&self) {
        let delay = Duration::from_millis(self.delay_ms.load(Ordering::SeqCst));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

async fn accept(listener: std::net::TcpListener, server: (String, u16), trouble: Arc<Trouble>) {
    let listener = TcpListener::from_std(listener).expect("the socket does not block");
    while let Ok((client, _)) = listener.accept().await {
        let (server, trouble) = (server.clone(), trouble.clone());
        let mut severed = trouble.severed.subscribe();
        tokio::spawn(async move {
            if *trouble.is_down.borrow() {
                return;
            }
            let Ok(server) = TcpStream::connect((server.0.as_str(), server.1)).await else { return };
            tokio::select! {
                // However this ends, both sides are closed.
                _ = carry(client, server, &trouble) => {}
                _ = severed.changed() => {}
            }
        });
    }
}

/// The function that every script of the store calls when something is not as expected.
const SCRIPT: &[u8] = b"not_as_expected()";

/// The names of a client's prepared COMMITs, so that a COMMIT by name is recognized.
#[derive(Debug, Default)]
struct Names {
    statements: HashSet<Vec<u8>>,
    portals: HashSet<Vec<u8>>,
}

impl Names {
    /// Whether this frame makes the server commit.
    fn commits(&mut self, frame: &Frame) -> bool {
        match frame.kind() {
            b'Q' => is_commit(frame.text(0)),
            b'P' => {
                let name = frame.text(0).to_vec();
                let words = frame.text(name.len() + 1);
                note(&mut self.statements, name, is_commit(words));
                false
            }
            b'B' => {
                let portal = frame.text(0).to_vec();
                let statement = frame.text(portal.len() + 1);
                let commits = self.statements.contains(statement);
                note(&mut self.portals, portal, commits);
                false
            }
            b'E' => self.portals.contains(frame.text(0)),
            _ => false,
        }
    }
}

fn note(names: &mut HashSet<Vec<u8>>, name: Vec<u8>, commits: bool) {
    match commits {
        true => names.insert(name),
        false => names.remove(&name),
    };
}

fn is_commit(words: &[u8]) -> bool {
    let words = words.trim_ascii();
    let words = words.strip_suffix(b";").unwrap_or(words).trim_ascii();
    // A script of the store is one statement outside of a transaction, which the server commits at its end.
    let is_script = words.windows(SCRIPT.len()).any(|window| window == SCRIPT);
    is_script || words.eq_ignore_ascii_case(b"commit") || words.eq_ignore_ascii_case(b"end")
}

/// Carries one connection. When this returns, with or without an error, the connection is over.
async fn carry(client: TcpStream, server: TcpStream, trouble: &Trouble) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client, mut to_client) = client.into_split();
    let (server, mut to_server) = server.into_split();
    let (mut client, mut server) = (Reader::new(client), Reader::new(server));
    loop {
        let (startup, kind) = client.startup().await?;
        to_server.write_all(&startup).await?;
        match kind {
            // The server answers with one letter, and the client begins anew.
            Startup::Encryption => to_client.write_all(&[server.byte().await?]).await?,
            Startup::Cancel => return Ok(()),
            Startup::Session => break,
        }
    }
    let mut names = Names::default();
    // How many times the server still has to say that it is ready, and whether the last time is not passed on.
    let (mut awaited, mut is_lost) = (1_u32, false);
    loop {
        tokio::select! {
            frame = client.frame(), if !is_lost => {
                let frame = frame?;
                if matches!(frame.kind(), b'Q' | b'E') {
                    trouble.hold_back().await;
                }
                if names.commits(&frame) {
                    let cut = trouble.cuts().pop_front();
                    match cut {
                        Some(Cut::BeforeCommit) => {
                            trouble.was_cut();
                            return Ok(());
                        }
                        Some(Cut::AfterCommit) => is_lost = true,
                        None => {}
                    }
                }
                awaited += u32::from(matches!(frame.kind(), b'Q' | b'S'));
                to_server.write_all(frame.bytes()).await?;
                if is_lost && frame.kind() == b'E' {
                    // The server answers executed statements only when a Sync asks for it.
                    to_server.write_all(Frame::SYNC).await?;
                    awaited += 1;
                }
            }
            frame = server.frame() => {
                let frame = frame?;
                let is_ready = frame.kind() == b'Z';
                if is_lost && awaited <= 1 {
                    if is_ready {
                        trouble.was_cut();
                        return Ok(());
                    }
                    continue;
                }
                awaited = awaited.saturating_sub(u32::from(is_ready));
                to_client.write_all(frame.bytes()).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Frame {
        let length = u32::try_from(payload.len() + 4).expect("a short frame");
        Frame::of([&[kind][..], &length.to_be_bytes(), payload].concat())
    }

    #[test]
    fn a_commit_is_known_by_its_words_and_by_its_name() {
        let mut names = Names::default();
        for (kind, payload, commits) in [
            (b'Q', &b"COMMIT\0"[..], true),
            (b'Q', b" commit ; \0", true),
            (b'Q', b"select 'COMMIT'\0", false),
            (b'Q', b"with w0 as (...) select not_as_expected()\0", true),
            (b'P', b"s1\0COMMIT\0\0\0", false),
            (b'P', b"s2\0select 1\0\0\0", false),
            (b'B', b"p\0s1\0\0\0\0\0\0\0", false),
            (b'E', b"p\0\0\0\0\0", true),
            (b'B', b"p\0s2\0\0\0\0\0\0\0", false),
            (b'E', b"p\0\0\0\0\0", false),
            (b'd', b"COMMIT\0", false),
        ] {
            assert_eq!(names.commits(&frame(kind, payload)), commits, "{} {payload:?}", char::from(kind));
        }
    }
}
