//! A failure as a person sees it: one line, and the traceback as text.

use cerebelum_history::kind;
use serde_json::Value;

use crate::proto;

/// A failure in one line. The type of an exception says more than the word `exception`.
#[must_use]
pub fn failure_line(failure: &proto::Failure) -> String {
    let kind = match failure.kind.as_str() {
        kind::EXCEPTION => exception_type(failure).unwrap_or_else(|| failure.kind.clone()),
        kind => kind.to_owned(),
    };
    match failure.message.is_empty() {
        true => kind,
        false => format!("{kind}: {}", failure.message),
    }
}

fn exception_type(failure: &proto::Failure) -> Option<String> {
    let details: Value = serde_json::from_str(failure.details.as_deref()?).ok()?;
    details.get("type")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// A JSON document without its first traceback, and that traceback; none if it has no traceback.
#[must_use]
pub fn without_traceback(json: &str) -> Option<(String, String)> {
    // Most documents have none, and such a document stays as it was written.
    if !json.contains("\"traceback\"") {
        return None;
    }
    let mut document: Value = serde_json::from_str(json).ok()?;
    let traceback = take_traceback(&mut document)?;
    Some((document.to_string(), traceback))
}

fn take_traceback(document: &mut Value) -> Option<String> {
    match document {
        Value::Object(members) => match members.get("traceback") {
            Some(Value::String(text)) if text.contains('\n') => {
                let text = text.clone();
                members.remove("traceback");
                Some(text)
            }
            _ => members.values_mut().find_map(take_traceback),
        },
        Value::Array(items) => items.iter_mut().find_map(take_traceback),
        _ => None,
    }
}

/// The lines of a traceback, with the paths of the project.
#[must_use]
pub fn traceback_lines(traceback: &str) -> Vec<String> {
    traceback.trim_end().lines().map(of_project).collect()
}

/// A line of a traceback with the path that its author knows: in a component, folders are mounted as `/1`, `/2` ….
fn of_project(line: &str) -> String {
    const FILE: &str = "File \"/";
    let Some(at) = line.find(FILE) else { return line.to_owned() };
    let (before, path) = (&line[..at], &line[at + FILE.len()..]);
    match path.split_once('/') {
        Some((mount, path)) if !mount.is_empty() && mount.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{before}File \"{path}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: &str, message: &str, details: Option<&str>) -> proto::Failure {
        let (kind, message) = (kind.into(), message.into());
        proto::Failure { kind, message, details: details.map(str::to_owned), retryable: true }
    }

    #[test]
    fn an_exception_is_told_by_its_type_and_everything_else_by_its_kind() {
        let cases = [
            (failure("exception", "'b'", Some(r#"{"type":"KeyError","traceback":"…"}"#)), "KeyError: 'b'"),
            (failure("exception", "", Some(r#"{"type":"shop.errors.Empty"}"#)), "shop.errors.Empty"),
            (failure("exception", "3", Some(r#"{"type":"SystemExit"}"#)), "SystemExit: 3"),
            (failure("exception", "odd", Some("[1]")), "exception: odd"),
            (failure("exception", "odd", Some(r#"{"type":7}"#)), "exception: odd"),
            (failure("exception", "odd", None), "exception: odd"),
            (failure("no-stock", "none", Some(r#"{"type":"KeyError"}"#)), "no-stock: none"),
        ];
        for (failure, told) in cases {
            assert_eq!(failure_line(&failure), told);
        }
    }

    #[test]
    fn paths_of_a_traceback_are_those_of_the_project() {
        let text = "Traceback (most recent call last):\n  File \"/2/shop/app.py\", line 3, in f\n    open(\"/2/x\")\n  \
                    File \"/3/httpx/_client.py\", line 1, in g\n  File \"/usr/lib/x.py\", line 9, in h\nKeyError: 'b'\n";
        let shown = traceback_lines(text);
        let expected = [
            "Traceback (most recent call last):",
            "  File \"shop/app.py\", line 3, in f",
            "    open(\"/2/x\")",
            "  File \"httpx/_client.py\", line 1, in g",
            "  File \"/usr/lib/x.py\", line 9, in h",
            "KeyError: 'b'",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_traceback_is_found_wherever_it_is_and_taken_out() {
        let cases = [
            (r#"{"type":"E","traceback":"a\nb"}"#, Some((r#"{"type":"E"}"#, "a\nb"))),
            (
                r#"{"failure":{"details":{"traceback":"a\nb","n":1}}}"#,
                Some((r#"{"failure":{"details":{"n":1}}}"#, "a\nb")),
            ),
            (r#"{"traceback":"one line"}"#, None),
            (r#"{"traceback":7}"#, None),
            ("{}", None),
            ("\"traceback\"", None),
            ("{\"traceback\"", None),
        ];
        for (json, expected) in cases {
            let expected = expected.map(|(rest, text)| (rest.to_owned(), text.to_owned()));
            assert_eq!(without_traceback(json), expected, "{json}");
        }
    }
}
