//! The outside world: a fake cloud in a process of its own, with a ledger of every request.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::http::{http, http_get};
use crate::{program, until};

/// A fake cloud.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    url: String,
}

impl Cloud {
    /// Starts a cloud.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a cloud with these arguments.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut child = Command::new(program("fake-cloud"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the fake cloud can be started");
        let line = BufReader::new(child.stdout.take().expect("its output is piped")).lines().next();
        let line = line.and_then(Result::ok).expect("it says where it listens");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
        Self { child, url }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request so far, in order.
    ///
    /// # Panics
    /// When the ledger cannot be read.
    #[must_use]
    pub fn ledger(&self) -> Vec<Value> {
        let text = http_get(&format!("{}/ledger", self.url));
        match serde_json::from_str(&text).expect("the ledger is JSON") {
            Value::Array(entries) => entries,
            other => panic!("the ledger is a list, not {other}"),
        }
    }

    /// The requests numbered above this one, in order.
    ///
    /// # Panics
    /// When the ledger cannot be read.
    #[must_use]
    pub fn ledger_after(&self, number: u64) -> Vec<Value> {
        let text = http_get(&format!("{}/ledger?after={number}", self.url));
        serde_json::from_str(&text).expect("the ledger is a list")
    }

    /// Waits until no client is connected to it: the requests of a killed engine have then been read into the ledger.
    ///
    /// # Panics
    /// When a client stays connected.
    pub fn wait_until_deserted(&self) {
        let port: u16 = self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port");
        let here = format!(":{port:04X}");
        until("nobody is connected to the fake cloud", || {
            let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists its sockets");
            // Local address and state: 01 is established, 03 about to be, 08 left by the other side.
            let busy = sockets.lines().skip(1).any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words[1].ends_with(&here) && ["01", "03", "08"].contains(&words[3])
            });
            (!busy).then_some(())
        });
    }

    /// Sends it a PUT, as another client would.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn put(&self, path: &str) {
        http("PUT", &format!("{}{path}", self.url), "");
    }

    /// The requests of this method to paths with this prefix.
    #[must_use]
    pub fn requests(&self, method: &str, path: &str) -> Vec<Value> {
        let fits = |entry: &Value| {
            entry["method"] == method && entry["path"].as_str().is_some_and(|asked| asked.starts_with(path))
        };
        self.ledger().into_iter().filter(fits).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have died already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
