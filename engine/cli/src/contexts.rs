//! The engines that this user has logged in to: a file that only the user may read.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exit::{CliError, Code, Outcome};

/// An engine, and the token for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The engine's address.
    pub(crate) url: String,
    /// The token.
    pub(crate) token: String,
    /// A file with authorities that vouch for the engine's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// A file with the client's own certificate and its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_cert: Option<PathBuf>,
}

/// All contexts, by name, of which one is the current one.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Contexts {
    current: Option<String>,
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the user's file; without a file there are no contexts.
    pub(crate) fn read() -> Outcome<Self> {
        let Some(file) = file() else { return Ok(Self::default()) };
        // A user without this folder, or without the right to read it, has not logged in.
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(Self::default()) };
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            // The cause may quote a token.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            CliError::usage(format!("{} is damaged in line {line}; remove it and log in again", file.display()))
        })
    }

    /// Replaces the user's file, for this user's eyes only.
    pub(crate) fn write(&self) -> Outcome {
        let file = file().ok_or_else(|| {
            CliError::usage(
                "there is no home folder for the token: set XDG_CONFIG_HOME, or use CEREBELUM_TOKEN".to_owned(),
            )
        })?;
        let failed = |error: std::io::Error| CliError::failed(format!("cannot write {}: {error}", file.display()));
        let folder = file.parent().expect("the file has a folder");
        std::fs::create_dir_all(folder).map_err(failed)?;
        // A temporary file has the mode 0600.
        let mut written = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let text = toml::to_string(self).expect("contexts are texts");
        written.write_all(text.as_bytes()).and_then(|()| written.as_file().sync_all()).map_err(failed)?;
        written.persist(&file).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Keeps a context and makes it the current one.
    pub(crate) fn keep(&mut self, name: String, context: Context) {
        self.contexts.insert(name.clone(), context);
        self.current = Some(name);
    }

    /// Makes a context the current one.
    pub(crate) fn choose(&mut self, name: &str) -> Outcome {
        self.named(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// The context with this name.
    pub(crate) fn named(&self, name: &str) -> Outcome<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            let all = self.contexts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let all =
                if all.is_empty() { "`cerebelum login` makes one".to_owned() } else { format!("there are {all}") };
            CliError::new(Code::NotFound, format!("there is no context `{}`: {all}", name.escape_debug()))
        })
    }

    /// The current context.
    pub(crate) fn current(&self) -> Option<&Context> {
        self.current.as_ref().and_then(|name| self.contexts.get(name))
    }

    /// The context of the engine at this address: the current one, or else the only one.
    pub(crate) fn at(&self, url: &str) -> Outcome<Option<&Context>> {
        if let Some(current) = self.current().filter(|context| context.url == url) {
            return Ok(Some(current));
        }
        let all: Vec<(&String, &Context)> = self.contexts.iter().filter(|(_, context)| context.url == url).collect();
        if let [(a, _), (b, _), ..] = all[..] {
            return Err(CliError::usage(format!(
                "{url} has more than one context, such as {a} and {b}: name one with --context"
            )));
        }
        Ok(all.first().map(|(_, context)| *context))
    }

    /// All contexts, and whether each is the current one.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Context, bool)> {
        self.contexts.iter().map(|(name, context)| (name.as_str(), context, self.current.as_ref() == Some(name)))
    }

    /// All contexts as JSON, without their tokens.
    pub(crate) fn lines_of_json(&self) -> impl Iterator<Item = String> {
        let line = |(name, context, current): (&str, &Context, bool)| {
            serde_json::json!({ "name": name, "url": context.url, "current": current }).to_string()
        };
        self.all().map(line)
    }
}

/// The user's file.
fn file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("cerebelum").join("contexts.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_kept_by_name_and_one_is_current() {
        let context =
            |url: &str| Context { url: url.to_owned(), token: "cb_1_2".to_owned(), ca: None, client_cert: None };
        let mut contexts = Contexts::default();
        contexts.keep("a".to_owned(), context("http://a:1"));
        contexts.keep("b".to_owned(), context("http://b:1"));
        assert_eq!(contexts.current(), Some(&context("http://b:1")));
        contexts.choose("a").unwrap();
        assert_eq!(contexts.at("http://a:1").unwrap(), contexts.current());
        assert_eq!(contexts.at("http://b:1").unwrap(), Some(&context("http://b:1")));
        assert_eq!(contexts.at("http://c:1").unwrap(), None);
        contexts.keep("b2".to_owned(), context("http://b:1"));
        contexts.choose("a").unwrap();
        assert!(contexts.at("http://b:1").unwrap_err().line.contains("b and b2"));
        assert!(contexts.choose("c").unwrap_err().line.contains("a, b, b2"));
        let text = toml::to_string(&contexts).unwrap();
        assert_eq!(toml::from_str::<Contexts>(&text).unwrap(), contexts);
        assert!(contexts.lines_of_json().all(|line| !line.contains("cb_1_2")));
    }
}
