//! The ledger: every request in order, in memory and, if wanted, in a file of one JSON document a line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the ledger, from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Whose world was asked: the name behind `/of/`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub world: String,
    /// `GET`, `POST` …
    pub method: String,
    /// Without the query, and without the world's name.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// All headers; of repeated ones the last.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

impl Entry {
    pub(crate) fn new(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
        let (world, path) = uri
            .path()
            .strip_prefix("/of/")
            .and_then(|rest| rest.find('/').map(|slash| rest.split_at(slash)))
            .unwrap_or(("", uri.path()));
        Self {
            number: 0,
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            world: world.to_owned(),
            method: method.to_string(),
            path: path.to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            idempotency_key: headers.get("idempotency-key").cloned(),
            headers,
            body: text(body),
        }
    }

    /// A number in the query.
    pub(crate) fn number_of(&self, name: &str) -> Option<u64> {
        self.word_of(name)?.parse().ok()
    }

    /// A word in the query.
    pub(crate) fn word_of(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(of, word)| (of == name).then_some(word))
    }
}

/// Every request in order.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<Arc<Entry>>,
    worlds: HashMap<String, Vec<Arc<Entry>>>,
    file: Option<File>,
}

impl Ledger {
    /// A ledger that goes on where the file, if there is one, ends.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut ledger = Self { entries: Vec::new(), worlds: HashMap::new(), file: None };
        let Some(path) = path else { return Ok(ledger) };
        let file = File::options().create(true).read(true).append(true).open(path)?;
        for line in BufReader::new(&file).lines() {
            ledger.keep(serde_json::from_str(&line?)?);
        }
        ledger.file = Some(file);
        Ok(ledger)
    }

    /// Every request so far.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Takes a request in and shows those of its world, itself the last.
    pub(crate) fn append(&mut self, mut entry: Entry) -> anyhow::Result<&[Arc<Entry>]> {
        entry.number = u64::try_from(self.entries.len())? + 1;
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        Ok(self.keep(entry))
    }

    fn keep(&mut self, entry: Entry) -> &[Arc<Entry>] {
        let entry = Arc::new(entry);
        self.entries.push(entry.clone());
        let world = self.worlds.entry(entry.world.clone()).or_default();
        world.push(entry);
        world
    }
}
