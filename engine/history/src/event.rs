//! Events of a history, and the text in which consecutive events are stored.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Approval, ApprovalRequest, Digest, End, ExecutionId, Failure, HttpResponse, Json, PollPolicy, Scope, StepCall,
    Timestamp, WorkflowCall,
};

/// The version of the replay rules under which new executions are recorded (L17).
pub const RULES: u32 = 1;

/// Something that happened to an execution, in one of its scopes.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The time of the event, stamped once and never earlier than the event before it (L8).
    pub at: Timestamp,
    /// The scope in which it happened.
    pub scope: Scope,
    /// The event itself.
    pub data: EventData,
}

/// The stored form of consecutive events.
pub(crate) mod in_a_row {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Event, EventData};
    use crate::{Scope, Timestamp};

    #[derive(Serialize)]
    pub(super) struct Written<'a> {
        /// Left out if it equals the stamp of the previous event.
        #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
        scope: Option<&'a Scope>,
        #[serde(rename = "f")]
        data: &'a EventData,
    }

    #[derive(Deserialize)]
    struct StoredEvent {
        #[serde(rename = "t")]
        at: Option<Timestamp>,
        #[serde(rename = "s", default = "Scope::root")]
        scope: Scope,
        #[serde(rename = "f")]
        data: EventData,
    }

    pub(super) fn written<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Written<'a>> {
        let mut before = None;
        let written = |Event { at, scope, data }: &'a Event| {
            let at = Some(*at).filter(|at| before.replace(*at) != Some(*at));
            Written { at, scope: Some(scope).filter(|scope| !scope.is_root()), data }
        };
        events.into_iter().map(written).collect()
    }

    pub(crate) fn serialize<S: Serializer>(events: &[Event], serializer: S) -> Result<S::Ok, S::Error> {
        written(events).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Event>, D::Error> {
        let mut before = None;
        let timed = |StoredEvent { at, scope, data }| {
            before = at.or(before);
            let at = before.ok_or_else(|| D::Error::custom("the first event has no time"))?;
            Ok(Event { at, scope, data })
        };
        Vec::<StoredEvent>::deserialize(deserializer)?.into_iter().map(timed).collect()
    }
}

/// Why a call was closed without an outcome of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The guest no longer wanted it.
    Dropped,
    /// The execution was asked to cancel; the call returns `cancelled`.
    Requested,
    /// The scope that issued it ended.
    ScopeEnded,
}

/// What happened. An event about a call carries the call's ordinal in the event's scope. A field is `None` if its value
/// was dropped when its step ended (L12).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the words of the glossary; each variant says what happened")]
pub enum EventData {
    /// The execution, or this run of it, began.
    ExecutionStarted { workflow: String, input: Json, rules: u32 },
    /// Its workflow returned.
    ExecutionCompleted { output: Json },
    /// Its workflow failed, or its deadline passed.
    ExecutionFailed { failure: Failure },
    /// The execution was cancelled or terminated.
    ExecutionCancelled { failure: Failure },
    /// The execution goes on as a new run with this input.
    ExecutionContinued { input: Json },
    /// A client asked to cancel the execution. Clean-up may take until the given time, or as long as it needs.
    CancelRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// From here on nothing is delivered and nothing starts.
    ExecutionPaused,
    /// The execution goes on after a pause.
    ExecutionResumed,
    /// A failed execution goes on: this call of the workflow is open again, and replay ignores what followed its
    /// outcome.
    ExecutionReopened {
        #[serde(rename = "o")]
        ordinal: u32,
    },
    /// A person must look at the execution.
    ExecutionParked { reason: String },

    /// A step was called.
    StepStarted {
        #[serde(rename = "o")]
        ordinal: u32,
        call: StepCall,
        /// The digest of the component that the step is pinned to, if it is not the execution's own (L17).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<Digest>,
    },
    /// An attempt failed. The next one begins after the delay, which was drawn once.
    StepRetried {
        #[serde(rename = "o")]
        ordinal: u32,
        attempt: u32,
        failure: Failure,
        delay_ms: u64,
    },
    /// A step returned.
    StepCompleted {
        #[serde(rename = "o")]
        ordinal: u32,
        output: Option<Json>,
    },
    /// A step failed for good.
    StepFailed {
        #[serde(rename = "o")]
        ordinal: u32,
        failure: Failure,
        attempt: u32,
    },

    /// A sleep began.
    SleepStarted {
        #[serde(rename = "o")]
        ordinal: u32,
        duration_ms: u64,
    },
    /// A sleep is over.
    SleepCompleted {
        #[serde(rename = "o")]
        ordinal: u32,
    },

    /// A host-driven poll began.
    PollStarted {
        #[serde(rename = "o")]
        ordinal: u32,
        check: StepCall,
        policy: PollPolicy,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<Digest>,
    },
    /// A check was ready, and the poll succeeded.
    PollCompleted {
        #[serde(rename = "o")]
        ordinal: u32,
        value: Option<Json>,
        attempts: u32,
    },
    /// No check was ready in time, or a check failed.
    PollFailed {
        #[serde(rename = "o")]
        ordinal: u32,
        failure: Failure,
        attempts: u32,
    },

    /// A person is asked.
    ApprovalRequested {
        #[serde(rename = "o")]
        ordinal: u32,
        id: String,
        request: ApprovalRequest,
    },
    /// A person approved the request.
    ApprovalReceived {
        #[serde(rename = "o")]
        ordinal: u32,
        approval: Approval,
    },
    /// A person rejected the request.
    ApprovalRejected {
        #[serde(rename = "o")]
        ordinal: u32,
        by: String,
        reason: String,
    },
    /// No person answered in time.
    ApprovalTimedOut {
        #[serde(rename = "o")]
        ordinal: u32,
    },

    /// A signal is waited for.
    SignalAwaited {
        #[serde(rename = "o")]
        ordinal: u32,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// A signal was bound to the call and delivered.
    SignalReceived {
        #[serde(rename = "o")]
        ordinal: u32,
        data: Option<Json>,
    },
    /// No signal came in time.
    SignalTimedOut {
        #[serde(rename = "o")]
        ordinal: u32,
    },

    /// An HTTP request is to be sent. The digest covers the whole request.
    FetchStarted {
        #[serde(rename = "o")]
        ordinal: u32,
        method: String,
        url: String,
        digest: String,
    },
    /// The server responded.
    FetchCompleted {
        #[serde(rename = "o")]
        ordinal: u32,
        response: Option<HttpResponse>,
        /// The status of a response that was dropped, if the status says that the request failed: what follows from the
        /// failure has to be known after the step has ended (see [`reopening`](crate::reopening())). Events of earlier
        /// versions do not have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// There was no response.
    FetchFailed {
        #[serde(rename = "o")]
        ordinal: u32,
        failure: Failure,
    },

    /// Another execution is to be started.
    ChildStarted {
        #[serde(rename = "o")]
        ordinal: u32,
        call: WorkflowCall,
        id: ExecutionId,
        awaited: bool,
    },
    /// The other execution exists.
    ChildAccepted {
        #[serde(rename = "o")]
        ordinal: u32,
        id: ExecutionId,
    },
    /// The child returned.
    ChildCompleted {
        #[serde(rename = "o")]
        ordinal: u32,
        output: Option<Json>,
    },
    /// The child failed, or its id was already taken.
    ChildFailed {
        #[serde(rename = "o")]
        ordinal: u32,
        failure: Failure,
    },

    /// An attribute was set.
    AttributeSet {
        #[serde(rename = "o")]
        ordinal: u32,
        name: String,
        value: Json,
    },
    /// A call was closed without an outcome of its own.
    CallCancelled {
        #[serde(rename = "o")]
        ordinal: u32,
        cause: Cause,
    },
    /// A call was made that a limit forbids. It failed at once, and of its arguments only the digest is kept.
    CallRefused {
        #[serde(rename = "o")]
        ordinal: u32,
        digest: String,
        failure: Failure,
    },
}

/// Why a stored text cannot be read as a history.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It was written by a newer engine.
    #[error("written by a newer engine: {0}")]
    Newer(String),
    /// It is damaged.
    #[error("events that cannot be read: {0}")]
    Damaged(String),
}

impl Event {
    /// The text of consecutive events as the store keeps it.
    #[must_use]
    pub fn encode<'a>(events: impl IntoIterator<Item = &'a Self>) -> String {
        serde_json::to_string(&in_a_row::written(events)).expect("events have a JSON form")
    }

    /// The events in such a text.
    ///
    /// # Errors
    /// When the text was not written by [`Event::encode`] of this version or an earlier one.
    pub fn decode(text: &str) -> Result<Vec<Self>, Unreadable> {
        let mut text = serde_json::Deserializer::from_str(text);
        let events = in_a_row::deserialize(&mut text).and_then(|events| text.end().map(|()| events));
        events.map_err(|e| {
            let cause = e.to_string();
            if cause.contains("unknown variant") { Unreadable::Newer(cause) } else { Unreadable::Damaged(cause) }
        })
    }
}

impl EventData {
    /// How the run ended, if this event ends it.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        Some(match self.clone() {
            Self::ExecutionCompleted { output } => End::Completed(output),
            Self::ExecutionFailed { failure } => End::Failed(failure),
            Self::ExecutionCancelled { failure } => End::Cancelled(failure),
            Self::ExecutionContinued { input } => End::Continued(input),
            _ => return None,
        })
    }

    /// The kind of this event, a word in the past tense, as readers see it.
    #[must_use]
    pub fn kind(&self) -> String {
        // The text is `{"Kind":{…}}` or `"Kind"`. What follows is not read: a value may be nested too deeply for that, or
        // a number that no type holds.
        let text = serde_json::to_string(self).expect("facts have a JSON form");
        text.split('"').nth(1).unwrap_or_default().to_owned()
    }

    /// This event without the values that are of no use once its step has ended (L12).
    #[must_use]
    pub fn without_values(self) -> Self {
        match self {
            Self::StepCompleted { ordinal, .. } => Self::StepCompleted { ordinal, output: None },
            Self::PollCompleted { ordinal, attempts, .. } => Self::PollCompleted { ordinal, value: None, attempts },
            Self::SignalReceived { ordinal, .. } => Self::SignalReceived { ordinal, data: None },
            Self::FetchCompleted { ordinal, .. } => {
                Self::FetchCompleted { ordinal, response: None, status: self.error_status() }
            }
            Self::ChildCompleted { ordinal, .. } => Self::ChildCompleted { ordinal, output: None },
            other => other,
        }
    }

    /// The status of the response, if the event is a response and its status says that the request failed.
    #[must_use]
    pub fn error_status(&self) -> Option<u16> {
        let Self::FetchCompleted { response, status, .. } = self else { return None };
        let status = response.as_ref().map(|response| response.status).or(*status)?;
        Some(status).filter(|status| *status >= 400)
    }

    /// Whether [`EventData::without_values`] leaves out any value.
    #[must_use]
    pub fn has_value(&self) -> bool {
        match self {
            Self::StepCompleted { output: value, .. }
            | Self::PollCompleted { value, .. }
            | Self::SignalReceived { data: value, .. }
            | Self::ChildCompleted { output: value, .. } => value.is_some(),
            Self::FetchCompleted { response, .. } => response.is_some(),
            _ => false,
        }
    }

    /// The ordinal of the step call that this event ended, if it ended one.
    #[must_use]
    pub fn ended_step(&self) -> Option<u32> {
        match self {
            Self::StepCompleted { ordinal, .. }
            | Self::StepFailed { ordinal, .. }
            | Self::CallCancelled { ordinal, .. } => Some(*ordinal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_inside_events_survive_unmodified() {
        let input = Json::parse(r#"{"z": 9007199254740993, "a": [null, "\u0000"]}"#).unwrap();
        let data = EventData::ExecutionStarted { workflow: "w".into(), input: input.clone(), rules: RULES };
        let event = Event { at: Timestamp(7), scope: Scope::root(), data };
        let text = Event::encode([&event]);
        let read = Event::decode(&text).unwrap();
        assert_eq!(read, [event]);
        assert!(text.contains(input.as_str()));
    }

    #[test]
    fn a_value_that_was_null_is_told_from_one_that_is_not_kept() {
        let null = Some(Json::null());
        let options = [
            (EventData::StepCompleted { ordinal: 1, output: null.clone() }, "output"),
            (EventData::ChildCompleted { ordinal: 1, output: null.clone() }, "output"),
            (EventData::PollCompleted { ordinal: 1, value: null.clone(), attempts: 2 }, "value"),
            (EventData::SignalReceived { ordinal: 1, data: null }, "data"),
        ];
        for (data, name) in options {
            let (kept, gone) = (data.fields(), data.without_values().fields());
            assert!(kept.as_str().contains(&format!(r#""{name}":null"#)), "{kept}");
            assert!(!gone.as_str().contains("null"), "{gone}");
            assert!(gone.as_str().starts_with(&format!(r#"{{"ordinal":1,"not_kept":["{name}"]"#)), "{gone}");
        }
        let gone = EventData::FetchCompleted { ordinal: 7, response: None, status: None }.fields();
        assert_eq!(gone.as_str(), r#"{"ordinal":7,"not_kept":["response"]}"#);
        let gone = EventData::FetchCompleted { ordinal: 7, response: None, status: Some(503) }.fields();
        assert_eq!(gone.as_str(), r#"{"ordinal":7,"not_kept":["response"],"status":503}"#);
    }

    #[test]
    fn a_time_is_written_once_for_events_of_one_moment() {
        let event = |at, scope: &str| Event {
            at: Timestamp(at),
            scope: Scope::from_text(scope),
            data: EventData::ExecutionPaused,
        };
        let events = [event(7, ""), event(7, "1"), event(8, ""), event(7, "")];
        let text = Event::encode(&events);
        let pause = r#""f":"ExecutionPaused"}"#;
        assert_eq!(text, format!(r#"[{{"t":7,{pause},{{"s":"1",{pause},{{"t":8,{pause},{{"t":7,{pause}]"#));
        assert_eq!(Event::decode(&text).unwrap(), events);
        assert!(matches!(Event::decode(&format!("[{{{pause}]")), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_newer_event_is_told_from_a_damaged_one() {
        let newer = r#"[{"t":1,"f":{"MoonRose":{"o":1}}}]"#;
        assert!(matches!(Event::decode(newer), Err(Unreadable::Newer(_))));
        assert!(matches!(Event::decode("[{"), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn kind_and_fields_are_what_readers_see() {
        let data = EventData::SleepStarted { ordinal: 2, duration_ms: 5 };
        assert_eq!(
            (data.kind().as_str(), data.fields().as_str()),
            ("SleepStarted", r#"{"ordinal":2,"duration_ms":5}"#)
        );
        assert_eq!(
            (EventData::ExecutionPaused.kind().as_str(), EventData::ExecutionPaused.fields().as_str()),
            ("ExecutionPaused", "{}")
        );
    }
}
