//! One line of text for a person: pieces with a style, cut to a width, free of control characters.

use std::borrow::Cow;

use cerebelum_history::{Status, UnknownStatus};
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

/// Foreign text, made harmless: control characters would move the cursor, and characters that change the direction of
/// writing would make the text read as something else.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            c if c.is_control() || is_invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A text that contains JSON, with the same meaning and without characters that control a terminal or change the
/// direction of writing. Our own escape sequences stay: they begin with a character that JSON never contains unescaped.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| matches!(c, '\u{7f}'..='\u{9f}') || is_invisible(c);
    if !text.contains(is_harmful) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}"))),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Characters that are invisible but change how others are shown or read.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_guest_writes_reaches_the_terminal_as_a_command() {
        assert_eq!(plain("a\x1b[2Jb\nc\r\u{9b}m\u{202e}x\t\u{7f}"), r"a\u{1b}[2Jb\nc\r\u{9b}m\u{202e}x\t\u{7f}");
        assert_eq!(plain("Grüße, 世界 ✓"), "Grüße, 世界 ✓");
    }

    #[test]
    fn json_on_a_terminal_means_the_same_and_commands_nothing() {
        let harmful = "\u{7f}\u{80}\u{9b}2J\u{9f}\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{ad}";
        let json = serde_json::to_string(&format!("\x1b[2J\n{harmful}Grüße, 世界 ✓ 😀")).unwrap();
        let shown = harmless(&json);
        assert!(
            shown.chars().all(|c| !c.is_control() && !is_invisible(c)) && shown.contains("Grüße, 世界 ✓ 😀"),
            "{shown}"
        );
        let means = |text: &str| serde_json::from_str::<String>(text).unwrap();
        assert_eq!(means(&shown), means(&json));
        assert_eq!(harmless("\x1b[31mred\x1b[0m"), "\x1b[31mred\x1b[0m");
    }

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
