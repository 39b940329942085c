//! One line of text for a person: pieces with a style, cut to a width, free of control characters.

use cerebelum_history::{Status, UnknownStatus};
use cerebelum_server::wording::plain;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Less important.
    Dim,
    /// More important.
    Bold,
    /// A success.
    Good,
    /// A failure.
    Bad,
    /// In progress.
    Busy,
    /// A person has to act.
    ActionNeeded,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Busy => "36",
            Self::ActionNeeded => "33",
        }
    }

    /// The style of a status.
    pub(crate) fn of_status(word: &str) -> Self {
        match word.parse() {
            Ok(Status::Completed) => Self::Good,
            Ok(Status::Failed) => Self::Bad,
            Ok(Status::Cancelled) => Self::Dim,
            Ok(Status::Running) => Self::Busy,
            Ok(Status::WaitingForApproval | Status::Parked | Status::Paused) => Self::ActionNeeded,
            Ok(Status::Sleeping | Status::Waiting) => Self::Plain,
            // The word of a newer engine.
            Err(UnknownStatus) => Self::Plain,
        }
    }
}

/// A line for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(Style, String)>,
}

impl Line {
    /// A line that begins with this text.
    pub(crate) fn new(style: Style, text: &str) -> Self {
        Self::default().and(style, text)
    }

    /// A line with the name of what a row of a table is about.
    pub(crate) fn bold(text: &str) -> Self {
        Self::new(Style::Bold, text)
    }

    /// The line with this text at its end. Whatever the text contains, it stays on this line.
    pub(crate) fn and(mut self, style: Style, text: &str) -> Self {
        self.pieces.push((style, plain(text)));
        self
    }

    /// The line with another one at its end.
    pub(crate) fn join(mut self, other: &Self) -> Self {
        self.pieces.extend_from_slice(&other.pieces);
        self
    }

    /// The number of columns of the line.
    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// The text, cut to `columns` if given, with colours if wanted.
    pub(crate) fn render(&self, columns: Option<usize>, colours: bool) -> String {
        let cut = columns.filter(|columns| self.width() > *columns);
        let mut left = cut.map_or(usize::MAX, |columns| columns.saturating_sub(1));
        let mut shown = String::new();
        for (style, text) in &self.pieces {
            let kept = fitting(text, left);
            left -= kept.width().min(left);
            match style.code() {
                code if colours && !code.is_empty() && !kept.is_empty() => {
                    shown.push_str(&format!("\x1b[{code}m{kept}\x1b[0m"));
                }
                _ => shown.push_str(kept),
            }
            if kept.len() < text.len() {
                break;
            }
        }
        if cut.is_some_and(|columns| columns > 0) {
            shown.push('…');
        }
        shown
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new(Style::Plain, text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// The longest beginning of `text` that takes at most `columns`.
fn fitting(text: &str, columns: usize) -> &str {
    let mut width = 0;
    for (at, c) in text.char_indices() {
        width += c.width().unwrap_or(0);
        if width > columns {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_its_width_and_wide_letters_count_twice() {
        let line = Line::new(Style::Bad, "世界").and(Style::Plain, " abc");
        assert_eq!(line.width(), 8);
        let cases = [(8, "世界 abc"), (7, "世界 a…"), (5, "世界…"), (4, "世…"), (1, "…"), (0, "")];
        for (columns, shown) in cases {
            assert_eq!(line.render(Some(columns), false), shown, "{columns}");
        }
        assert_eq!(line.render(Some(4), true), "\x1b[31m世\x1b[0m…");
    }
}
