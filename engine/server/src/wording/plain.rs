//! Texts of guests and clients, made harmless for a terminal or a page.

use std::borrow::Cow;

/// Foreign text, made harmless: control characters would move the cursor, and characters that change the direction of
/// writing would make the text read as something else.
#[must_use]
pub fn plain(text: &str) -> String {
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
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
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
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
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
}
