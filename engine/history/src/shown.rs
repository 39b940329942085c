//! Events as readers are shown them, and back; and the beginnings of texts that are too long to be shown.

use serde_json::{Map, Value, json};

use crate::{Event, EventData, Json, Scope, Timestamp};

/// A text of at most so many letters, or its beginning and an ellipsis.
#[must_use]
pub fn brief(text: &str, letters_max: usize) -> String {
    match text.char_indices().nth(letters_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl EventData {
    /// All fields but the kind, as one JSON object for readers.
    #[must_use]
    pub fn fields(&self) -> Json {
        let text = serde_json::to_string(self).expect("facts have a JSON form");
        // The text is `{"Kind":{…}}`, or `"Kind"` where there are no fields.
        let inner = text.find(':').map(|colon| &text[colon + 1..text.len() - 1]);
        // The name is stored short and shown in full.
        let inner = inner.map(|text| text.replacen(r#"{"o":"#, r#"{"ordinal":"#, 1));
        // A `null` and a value that was dropped must not look the same.
        let inner = match self.value_not_kept() {
            Some(name) => {
                inner.map(|text| text.replacen(&format!(r#""{name}":null"#), &format!(r#""not_kept":["{name}"]"#), 1))
            }
            None => inner,
        };
        Json::parse(inner.unwrap_or_else(|| "{}".to_owned()))
            .unwrap_or_else(|_| Json::of(&serde_json::json!({"too_large": true})))
    }

    /// The name of the value that this event had until its step ended (L12).
    fn value_not_kept(&self) -> Option<&'static str> {
        match self {
            Self::StepCompleted { output: None, .. } | Self::ChildCompleted { output: None, .. } => Some("output"),
            Self::PollCompleted { value: None, .. } => Some("value"),
            Self::SignalReceived { data: None, .. } => Some("data"),
            Self::FetchCompleted { response: None, .. } => Some("response"),
            _ => None,
        }
    }
}

impl Event {
    /// The event that is shown with this kind and these fields; none if this version does not know it.
    #[must_use]
    pub fn from_shown(at: Timestamp, scope: &Scope, kind: &str, mut fields: Map<String, Value>) -> Option<Self> {
        if let Some(ordinal) = fields.remove("ordinal") {
            fields.insert("o".to_owned(), ordinal);
        }
        // An event without fields is stored as its kind alone, unless it may have some.
        let data = [json!({ kind: fields }), json!(kind)];
        let data = data.into_iter().find_map(|data| serde_json::from_value(data).ok())?;
        Some(Self { at, scope: scope.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HttpResponse;

    #[test]
    fn what_is_shown_can_be_read_back() {
        for data in [
            EventData::ExecutionPaused,
            EventData::SleepStarted { ordinal: 7, duration_ms: 5 },
            EventData::FetchCompleted { ordinal: 7, response: None, status: None },
            EventData::FetchCompleted { ordinal: 7, response: None, status: Some(503) },
        ] {
            let Value::Object(fields) = serde_json::from_str(data.fields().as_str()).unwrap() else {
                panic!("{data:?}")
            };
            let event = Event { at: Timestamp(3), scope: Scope::root(), data };
            let read = Event::from_shown(event.at, &event.scope, &event.data.kind(), fields);
            assert_eq!(read, Some(event));
        }
        assert_eq!(Event::from_shown(Timestamp(3), &Scope::root(), "OfTomorrow", Map::new()), None);
    }

    #[test]
    fn of_a_dropped_response_only_the_status_of_a_failure_is_kept() {
        for (status, kept) in
            [(200, None), (302, None), (399, None), (400, Some(400)), (404, Some(404)), (503, Some(503))]
        {
            let response = HttpResponse { status, headers: Vec::new(), body: b"because".to_vec() };
            let whole = EventData::FetchCompleted { ordinal: 1, response: Some(response), status: None };
            let gone = whole.clone().without_values();
            assert_eq!(gone, EventData::FetchCompleted { ordinal: 1, response: None, status: kept });
            assert_eq!((whole.error_status(), gone.error_status()), (kept, kept));
            assert_eq!(gone.clone().without_values(), gone, "dropping twice drops no more");
            let event = Event { at: Timestamp(1), scope: Scope::root(), data: gone };
            assert_eq!(Event::decode(&Event::encode([&event])).unwrap(), [event]);
        }
        let of_before = r#"[{"t":1,"f":{"FetchCompleted":{"o":1,"response":null}}}]"#;
        let read = Event::decode(of_before).unwrap();
        assert_eq!(read[0].data, EventData::FetchCompleted { ordinal: 1, response: None, status: None });
        assert_eq!(Event::encode(&read), of_before);
    }
}
