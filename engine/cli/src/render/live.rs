//! A frame that is redrawn in the same place of a terminal.

use std::io::{self, Write};

use super::line::{Line, Style};

/// The number of lines that are kept at the top of a frame that is too high.
const HEAD_LINES: usize = 3;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Characters in a line.
    pub(crate) columns: usize,
    /// Lines.
    pub(crate) rows: usize,
}

/// The place of the frame on the terminal.
pub(crate) struct Live<W> {
    out: W,
    colours: bool,
    drawn: Option<Drawn>,
}

struct Drawn {
    lines: usize,
    size: Size,
    text: String,
}

impl<W: Write> Live<W> {
    /// A place below the current content of the terminal.
    pub(crate) fn new(out: W, colours: bool) -> Self {
        Self { out, colours, drawn: None }
    }

    /// Draws the frame over the one before. A terminal that was resized meanwhile is cleared, because the position of
    /// its lines is unknown.
    pub(crate) fn draw(&mut self, picture: &[Line], size: Size) -> io::Result<()> {
        let lines = fitted(picture, size.rows.saturating_sub(1));
        let body: String =
            lines.iter().map(|line| format!("\x1b[2K{}\r\n", line.render(Some(size.columns), self.colours))).collect();
        let above = match &self.drawn {
            None => String::new(),
            Some(drawn) if drawn.size != size => "\x1b[2J\x1b[H".to_owned(),
            Some(drawn) if drawn.text == body => return Ok(()),
            Some(drawn) if drawn.lines > 0 => format!("\x1b[{}A", drawn.lines),
            Some(_) => String::new(),
        };
        // The outer codes ask the terminal to show the change at once; terminals that do not know them ignore them.
        write!(self.out, "\x1b[?2026h{above}{body}\x1b[J\x1b[?2026l")?;
        self.out.flush()?;
        self.drawn = Some(Drawn { lines: lines.len(), size, text: body });
        Ok(())
    }
}

/// The frame in at most `rows` lines: its head and its end.
fn fitted(picture: &[Line], rows: usize) -> Vec<Line> {
    if picture.len() <= rows {
        return picture.to_vec();
    }
    let head = HEAD_LINES.min(rows.saturating_sub(2));
    let Some(tail) = rows.checked_sub(head + 1) else { return picture[..rows].to_vec() };
    let hidden = picture.len() - head - tail;
    let mut lines = picture[..head].to_vec();
    lines.push(Line::new(Style::Dim, &format!("  … {hidden} lines more, on a higher terminal")));
    lines.extend_from_slice(&picture[picture.len() - tail..]);
    lines
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

    use super::*;
    use crate::render::testing::{START_MS, deployment};
    use crate::render::{Now, RenderOptions, execution};

    /// Both ends of a pseudo-terminal, and the screen that a person sees.
    struct Terminal {
        master: File,
        slave: File,
        written: Receiver<Vec<u8>>,
        screen: vt100::Parser,
    }

    /// Reads all the time, as a terminal does: a full buffer makes its writers wait.
    fn reading(mut master: File) -> Receiver<Vec<u8>> {
        let (sender, written) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(read) = master.read(&mut buffer) {
                if read == 0 || sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        written
    }

    impl Terminal {
        fn open(size: Size) -> Self {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&master).unwrap();
            unlockpt(&master).unwrap();
            let name = ptsname(&master, Vec::new()).unwrap();
            let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
            let screen =
                vt100::Parser::new(u16::try_from(size.rows).unwrap(), u16::try_from(size.columns).unwrap(), 100);
            let master = File::from(master);
            let written = reading(master.try_clone().unwrap());
            let mut terminal = Self { master, slave, written, screen };
            terminal.resize(size);
            terminal
        }

        fn resize(&mut self, size: Size) {
            let (ws_row, ws_col) = (u16::try_from(size.rows).unwrap(), u16::try_from(size.columns).unwrap());
            tcsetwinsize(&self.master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
            self.screen.screen_mut().set_size(ws_row, ws_col);
        }

        fn size(&self) -> Size {
            let size = tcgetwinsize(&self.slave).unwrap();
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }

        /// The screen after everything written so far, up to and with `mark`.
        fn look(&mut self, mark: &str) -> Vec<String> {
            write!(self.slave, "{mark}").unwrap();
            while !self.screen.screen().contents().contains(mark) {
                self.screen.process(&self.written.recv_timeout(Duration::from_secs(20)).unwrap());
            }
            let shown = self.screen.screen().contents();
            // The mark is removed, so that the next frame finds the cursor where it left it.
            self.screen.process(b"\x1b[2K\r");
            shown.lines().map(str::to_owned).collect()
        }
    }

    fn picture(ms: u64, number: usize) -> Vec<Line> {
        execution(&deployment(), RenderOptions { picture: Some(number), ..RenderOptions::at(Now(START_MS + ms)) })
    }

    #[test]
    fn pictures_are_drawn_over_each_other_and_below_what_was_there() {
        let mut terminal = Terminal::open(Size { columns: 60, rows: 20 });
        writeln!(terminal.slave, "$ cerebelum watch e1").unwrap();
        let mut live = Live::new(terminal.slave.try_clone().unwrap(), true);
        for number in 0..30 {
            live.draw(&picture(10_000 + 100 * number, 0), terminal.size()).unwrap();
        }
        let shown = terminal.look("<1>");
        assert_eq!(shown[0], "$ cerebelum watch e1");
        assert_eq!(shown[1], "⠋ e1  shop/deploy  running");
        assert_eq!(shown.iter().filter(|line| line.contains("shop/deploy")).count(), 1);
        assert_eq!(shown.last().unwrap(), "<1>");
        assert!(shown[4].starts_with("  ⠋ configure") && shown[4].ends_with('…'), "{shown:#?}");
        live.draw(&picture(13_000, 1)[..2], terminal.size()).unwrap();
        let shown = terminal.look("<2>");
        assert_eq!(
            shown,
            ["$ cerebelum watch e1", "⠙ e1  shop/deploy  running", "  started 13s ago · 9 events", "<2>"]
        );
    }

    #[test]
    fn a_resized_terminal_shows_one_whole_picture() {
        let mut terminal = Terminal::open(Size { columns: 80, rows: 20 });
        let mut live = Live::new(terminal.slave.try_clone().unwrap(), false);
        live.draw(&picture(10_000, 0), terminal.size()).unwrap();
        for (columns, rows) in [(30, 20), (100, 6), (10, 20), (80, 20)] {
            terminal.look("<before>");
            terminal.resize(Size { columns, rows });
            live.draw(&picture(10_000, 0), terminal.size()).unwrap();
            let shown = terminal.look("<m>");
            assert_eq!(shown.iter().filter(|line| line.starts_with("⠋ e1")).count(), 1, "{columns}x{rows}: {shown:#?}");
            assert!(shown.len() <= rows, "{columns}x{rows}: {shown:#?}");
        }
    }

    #[test]
    fn a_picture_that_is_too_high_keeps_its_head_and_its_end() {
        let lines: Vec<Line> = (0..10).map(|n| Line::new(Style::Plain, &n.to_string())).collect();
        let shown = |rows| fitted(&lines, rows).iter().map(|line| line.render(None, false)).collect::<Vec<_>>();
        assert_eq!(shown(10).len(), 10);
        assert_eq!(shown(6), ["0", "1", "2", "  … 5 lines more, on a higher terminal", "8", "9"]);
        for rows in 0..10 {
            assert!(shown(rows).len() <= rows, "{rows}");
        }
    }

    #[test]
    fn an_unchanged_picture_is_not_drawn_again() {
        let mut out = Vec::new();
        let size = Size { columns: 80, rows: 20 };
        let mut live = Live::new(&mut out, false);
        live.draw(&picture(10_000, 0), size).unwrap();
        live.draw(&picture(10_000, 0), size).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("shop/deploy").count(), 1);
    }
}
