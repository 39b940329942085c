//! Splits a guest's output, which arrives in fragments, into lines.

use crate::limits::TEXT_BYTES_MAX;

/// The beginning of an unfinished line.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes a fragment and returns the lines that it completes. Empty lines are left out.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            for part in piece.chunks(TEXT_BYTES_MAX) {
                self.0.extend_from_slice(part);
                if part.ends_with(b"\n") || self.0.len() >= TEXT_BYTES_MAX {
                    lines.extend(self.rest());
                }
            }
        }
        lines
    }

    /// Takes the text since the last newline.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.0);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_lines() {
        let mut lines = Lines::default();
        assert!(lines.push(b"hello").is_empty());
        assert!(lines.push(b" ").is_empty());
        assert_eq!(lines.push(b"world\n\nnext\nre"), ["hello world", "next"]);
        assert_eq!(lines.rest().as_deref(), Some("re"));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; TEXT_BYTES_MAX * 2 + 1]).len(), 2);
    }
}
