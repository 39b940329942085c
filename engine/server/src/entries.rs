//! The entries of an interface: its paths, the methods that they take, and what each of them does.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::Method;
use cerebelum_worker::Action;

use crate::access::ACTIONS;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Every client that reaches the port.
    Anyone,
    /// A caller whose role allows the action.
    Callers(Action),
}

/// The entries of an interface, by path and method.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries(Arc<HashMap<String, HashMap<Method, Entry>>>);

impl Entries {
    /// The entry of a request, if there is one.
    pub(crate) fn of(&self, method: &Method, path: &str) -> Option<Entry> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.get(method).copied()
    }

    /// Whether this is a path of the interface.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

impl FromIterator<(Method, String, Entry)> for Entries {
    fn from_iter<I: IntoIterator<Item = (Method, String, Entry)>>(all: I) -> Self {
        let mut entries: HashMap<String, HashMap<_, _>> = HashMap::new();
        for (method, path, entry) in all {
            entries.entry(path).or_default().insert(method, entry);
        }
        Self(Arc::new(entries))
    }
}

/// The entry for what a method of the service does.
///
/// # Panics
/// When the service has no such method.
pub(crate) fn entry_of(method: &str) -> Entry {
    let found = ACTIONS.into_iter().find(|(name, _)| *name == method);
    Entry::Callers(found.unwrap_or_else(|| panic!("{method} is not a method of the service")).1)
}
