//! Names and numbers: tenants, executions, components, scopes, calls, positions and timestamps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidName(pub String);

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `duration_ms` milliseconds later, or the latest possible time if that is out of range.
    #[must_use]
    pub const fn plus(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to this time, or zero if this time is the earlier one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The position of an event in its history: 1 is the first event of a run, and 0 is before all events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The id of an execution: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionId(Arc<str>);

impl ExecutionId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".:_-".contains(c);
        // A browser takes `.` and `..` out of a path.
        let is_place = matches!(text, "." | "..");
        if text.is_empty() || text.len() > 128 || is_place || !text.chars().all(allowed) {
            return Err(InvalidName(format!(
                "`{}` is no execution id: use 1 to 128 of A-Z a-z 0-9 . _ : -",
                text.chars().take(140).collect::<String>().escape_debug()
            )));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for ExecutionId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> Self {
        id.0.to_string()
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content address of a component: BLAKE3 of its bytes as 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(Arc<str>);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().as_str().into())
    }

    /// A digest from its written form.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// All 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The issuer of a call: the workflow itself (the root), or the step that a call started.
///
/// A scope is written as the path of ordinals that leads to it: `""` is the workflow, `3` the step that its third call
/// started, `3.1` a step that was started by that step, `4#7` the seventh check of the poll that is call 4 (L2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Scope(Arc<str>);

impl TryFrom<String> for Scope {
    type Error = InvalidName;

    /// A scope that was stored. Damage shows here, and not where the scope is taken apart.
    fn try_from(text: String) -> Result<Self, InvalidName> {
        let is_number = |digits: &str| digits.parse::<u32>().is_ok_and(|number| number.to_string() == digits);
        let is_step = |part: &str| match part.split_once('#') {
            Some((ordinal, round)) => is_number(ordinal) && is_number(round),
            None => is_number(part),
        };
        if text.is_empty() || text.split('.').all(is_step) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(format!("`{}` is not a scope", text.chars().take(140).collect::<String>().escape_debug())))
        }
    }
}

impl Scope {
    /// The workflow's own scope.
    #[must_use]
    pub fn root() -> Self {
        Self("".into())
    }

    /// A scope from its written form.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The scope's written form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the workflow itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this scope is `other` or lies inside it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '#']))
    }

    /// The number of steps around this scope; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('.').count() }
    }

    /// The call that started this scope, or none for the root.
    #[must_use]
    pub fn call(&self) -> Option<CallName> {
        if self.is_root() {
            return None;
        }
        let (parent, last) = self.0.rsplit_once('.').unwrap_or(("", &self.0));
        let ordinal = last.split('#').next().and_then(|digits| digits.parse().ok());
        Some(CallName { scope: Self(parent.into()), ordinal: ordinal.expect("a scope is a path of ordinals") })
    }

    /// The outermost poll that has this scope as a round or inside one.
    #[must_use]
    pub fn poll(&self) -> Option<CallName> {
        let hash = self.0.find('#')?;
        Self(self.0[..hash].into()).call()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a call: its scope, and the ordinal of the call within its scope. A history position is never part of it
/// (L2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallName {
    /// The scope that issued the call.
    pub scope: Scope,
    /// The number of the durable call within its scope, from 1.
    pub ordinal: u32,
}

impl CallName {
    /// The scope of the step that this call started.
    #[must_use]
    pub fn step_scope(&self) -> Scope {
        let dot = if self.scope.is_root() { "" } else { "." };
        Scope(format!("{}{dot}{}", self.scope, self.ordinal).into())
    }

    /// The scope of one round (from 1) of the poll that this call stands for.
    #[must_use]
    pub fn round_scope(&self, round: u32) -> Scope {
        Scope(format!("{}#{round}", self.step_scope()).into())
    }
}

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step_scope())
    }
}

impl FromStr for CallName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (scope, ordinal) = text.rsplit_once('.').unwrap_or(("", text));
        let ordinal = ordinal.parse().map_err(|_| InvalidName(format!("`{text}` names no call")))?;
        Ok(Self { scope: scope.to_owned().try_into()?, ordinal })
    }
}
