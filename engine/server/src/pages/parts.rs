//! The small parts of pages: statuses, moments, values, and texts that others wrote.

use cerebelum_history::{Status, UnknownStatus, brief};
use maud::{Markup, Render, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost_types::Timestamp;

use crate::json::{compact, rfc3339};
use crate::wording::{Now, ago, plain, pretty_or_plain};

/// Everything but what a path segment and a query value may contain as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longer values are cut where several are shown.
const PREVIEW_LETTERS_MAX: usize = 120;
/// Longer values are not laid out.
const PRETTY_BYTES_MAX: usize = 64 << 10;
/// Longer values lead to their own page.
const SHORT_BYTES: usize = 1 << 10;
/// Longer values are cut on a page.
pub(super) const VALUE_BYTES_MAX: usize = 256 << 10;

/// A text that a guest or client wrote, without characters that are invisible or change the direction of writing.
pub(super) fn text(of: &str) -> impl Render {
    plain(of)
}

/// A text as a segment of a path or as the value of a query.
pub(super) fn escaped(of: &str) -> String {
    utf8_percent_encode(of, ESCAPED).to_string()
}

/// What a reader typed into a field, if it was anything.
pub(super) fn filled(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A query of these names and values; what is empty is left out.
pub(super) fn query(of: &[(&str, &str)]) -> String {
    let parts = of.iter().filter(|(_, value)| !value.is_empty());
    parts.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

/// The path of an execution's page.
pub(super) fn execution_path(id: &str) -> String {
    format!("/executions/{}", escaped(id))
}

/// The path of the form that starts a workflow, `component/workflow`.
pub(super) fn start_path(workflow: &str) -> String {
    let (component, workflow) = workflow.split_once('/').unwrap_or(("", workflow));
    format!("/start/{}/{}", escaped(component), escaped(workflow))
}

/// A button for what cannot be undone: it shows what will be, and a second button that does it.
pub(super) fn confirmed(action: &str, word: &str, consequence: &str) -> Markup {
    html! {
        details.confirm {
            summary.button.danger { (word) " …" }
            form method="post" action=(action) {
                p.note { (consequence) }
                button.danger { (word) " now" }
            }
        }
    }
}

/// A status as a word with a sign.
pub(super) fn status(word: &str) -> Markup {
    let (class, sign) = match word.parse() {
        Ok(Status::Completed) => ("good", "✓"),
        Ok(Status::Failed) => ("bad", "✗"),
        Ok(Status::Cancelled) => ("over", "⊘"),
        Ok(Status::Running) => ("busy", "●"),
        Ok(Status::Paused) => ("held", "‖"),
        Ok(Status::Parked) => ("held", "!"),
        Ok(Status::WaitingForApproval) => ("held", "?"),
        Ok(Status::Sleeping | Status::Waiting) | Err(UnknownStatus) => ("calm", "◌"),
    };
    html! { span.status.(class) { span aria-hidden="true" { (sign) } " " (text(word)) } }
}

/// A moment, as seen from now; its exact time is its title.
pub(super) fn moment(at: Option<&Timestamp>, now: Now) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let exact = rfc3339(at);
    html! { time.ago datetime=(exact) title=(clock(at)) { (ago(Some(at), now)) } }
}

/// A moment as date and time in UTC.
pub(super) fn clock(at: &Timestamp) -> String {
    let exact = rfc3339(at);
    exact.replace('T', " ").replace('Z', " UTC")
}

/// A moment as date and time.
pub(super) fn exact(at: Option<&Timestamp>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    html! { time.exact datetime=(rfc3339(at)) { (clock(at)) } }
}

/// The head of a column.
#[derive(Clone, Copy)]
pub(super) enum Column<'a> {
    Text(&'a str),
    Number(&'a str),
    /// For readers who hear the page: the others see what the column is for.
    Unseen(&'a str),
}

/// A table of this name, with a style of its own if it needs one. A reader can move it sideways.
pub(super) fn table(name: &str, style: Option<&str>, columns: &[Column], rows: &Markup) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label=(name) {
            table class=[style] {
                thead { tr {
                    @for column in columns {
                        @match column {
                            Column::Text(head) => th scope="col" { (text(head)) },
                            Column::Number(head) => th.number scope="col" { (text(head)) },
                            Column::Unseen(head) => th scope="col" { span.unseen { (text(head)) } },
                        }
                    }
                } }
                tbody { (rows) }
            }
        }
    }
}

/// The beginning of a value, on one line.
pub(super) fn preview(json: &str) -> String {
    // A value may have a megabyte: no more of it is looked at than can be shown.
    let beginning = cut_at(json, PREVIEW_LETTERS_MAX * 8);
    cut(&compact(beginning), PREVIEW_LETTERS_MAX)
}

/// A text cut to so many letters.
pub(super) fn cut(of: &str, letters_max: usize) -> String {
    plain(&brief(of, letters_max))
}

/// The longest beginning of a text that has at most so many bytes.
fn cut_at(of: &str, bytes_max: usize) -> &str {
    &of[..of.floor_char_boundary(bytes_max)]
}

/// A value. A long one is shown as it was written, a very long one only as far as a page can hold it. If it has a page of
/// its own, that is where it leads then.
pub(super) fn value(json: &str, whole: Option<&str>) -> Markup {
    value_up_to(json, VALUE_BYTES_MAX, whole)
}

/// The same, of which at most so many bytes are shown.
pub(super) fn value_up_to(json: &str, bytes_max: usize, whole: Option<&str>) -> Markup {
    let lines = match json.len() {
        bytes if bytes <= PRETTY_BYTES_MAX.min(bytes_max) => pretty_or_plain(json),
        _ => cut_at(json, bytes_max).lines().map(str::to_owned).collect(),
    };
    let hidden = json.len().saturating_sub(bytes_max);
    html! {
        pre.value tabindex="0" { @for line in &lines { (text(line)) "\n" } }
        @match whole {
            Some(path) if hidden > 0 => p.note { (hidden) " more bytes are not shown. " a href=(path) { "Show the whole value" } },
            Some(path) if json.len() > SHORT_BYTES => p.note { a href=(path) { "Show the value alone" } },
            None if hidden > 0 => p.note { (hidden) " more bytes are not shown: " code { "--json" } " on the command line and REST have them all." },
            _ => {},
        }
    }
}

/// A value on one line if it is short, else one that can be opened.
pub(super) fn value_in_brief(json: &str) -> Markup {
    let short = preview(json);
    match short.ends_with('…') {
        false => html! { code.value { (short) } },
        true => html! { details { summary { code { (short) } } (value(json, None)) } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_leave_its_place() {
        let hostile = "<script>alert(1)</script>\u{202e}\u{1b}[2J\"'&";
        let shown = html! { p title=(hostile) {} }.into_string();
        assert!(!shown.contains("<script") && shown.ends_with("\"></p>"), "{shown}");
        let shown = html! { (text(hostile)) }.into_string();
        assert_eq!(shown, "&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}\\u{1b}[2J&quot;'&amp;");
        assert_eq!(escaped("a/b?c=d&e#f%ü"), "a%2Fb%3Fc%3Dd%26e%23f%25%C3%BC");
    }

    #[test]
    fn numbers_of_a_value_stay_as_they_were_written_and_long_values_are_cut() {
        let json = r#"{"n":9223372036854775807,"x":1e400,"y":0.2345678901234568}"#;
        let shown = value(json, None).into_string();
        for number in ["9223372036854775807", "1e400", "0.2345678901234568"] {
            assert!(shown.contains(number), "{shown}");
        }
        let long = format!("\"{}\"", "ü".repeat(1 << 20));
        for (whole, says) in
            [(None, "more bytes are not shown: "), (Some("/executions/a/value/input"), "Show the whole")]
        {
            let shown = value(&long, whole).into_string();
            assert!(shown.len() < VALUE_BYTES_MAX + 1_000 && shown.contains(says), "{says}");
        }
        assert!(preview(&long).chars().count() == PREVIEW_LETTERS_MAX + 1);
    }
}
