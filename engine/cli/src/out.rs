//! Writes answers to stdout, with colours only for a person at a terminal, and notes and errors to stderr.
//!
//! Only this module writes to either. A closed stdout ends the program quietly; a closed stderr does not end it.

use std::io::{IsTerminal, Write};

use crate::exit::{CliError, Outcome};
use crate::render::{Line, Size, harmless, plain};

/// Standard output, and how it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    /// Whether it is a terminal.
    pub(crate) is_terminal: bool,
    /// Whether colours are wanted.
    pub(crate) colours: bool,
}

impl Out {
    /// This process's standard output.
    pub(crate) fn detect() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { is_terminal, colours: is_terminal && !refused && !dumb }
    }

    /// Writes one line; on a terminal, control characters are escaped as JSON escapes them.
    pub(crate) fn say(self, line: &str) -> Outcome {
        let shown = if self.is_terminal { harmless(line) } else { line.into() };
        let line = &*shown;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}")?;
        Ok(stdout.flush()?)
    }

    /// Writes lines for a person; on a terminal they are cut to its width.
    pub(crate) fn show(self, lines: &[Line]) -> Outcome {
        let columns = self.is_terminal.then(|| size().columns);
        let mut stdout = std::io::stdout().lock();
        for line in lines {
            writeln!(stdout, "{}", line.render(columns, self.colours))?;
        }
        Ok(stdout.flush()?)
    }

    /// Writes a JSON array, one item per line.
    pub(crate) fn array(self, items: &[String]) -> Outcome {
        match items {
            [] => self.say("[]"),
            items => self.say(&format!("[\n{}\n]", items.join(",\n"))),
        }
    }

    /// Writes a guest's JSON: as it is for programs, with control characters escaped for a person.
    pub(crate) fn json(self, json: &str) -> Outcome {
        if !self.is_terminal {
            return self.say(json);
        }
        let lines: Vec<_> = crate::render::pretty(json).iter().map(|line| crate::render::plain(line)).collect();
        self.say(&lines.join("\n"))
    }
}

/// Writes a line to stderr: a note beside the answer.
pub(crate) fn note(line: &str) {
    // When stderr is closed, the note has no reader.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes to stderr, over the last line of the terminal there.
pub(crate) fn note_again(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
}

/// Whether stderr is a terminal.
pub(crate) fn notes_are_seen() -> bool {
    std::io::stderr().is_terminal()
}

/// Writes to stderr why something was not done.
pub(crate) fn complain(stop: &CliError, in_json: bool) {
    let Some(code) = stop.code else { return };
    match in_json {
        true => {
            let error = serde_json::json!({ "code": code as u8, "message": stop.line });
            note(&serde_json::json!({ "error": error }).to_string());
        }
        false => note(&format!("error: {}", plain(&stop.line))),
    }
}

/// The current size of the terminal.
pub(crate) fn size() -> Size {
    let known = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(Size { columns: 80, rows: 24 }, |size| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}
