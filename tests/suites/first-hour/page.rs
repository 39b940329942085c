//! A page of the documentation: its blocks of commands, and the comments in front of them, which say how to run them.
//!
//! A block is run in the main terminal, unless there is a comment on the line before it:
//! `<!-- not run: WHY -->`, `<!-- terminal: engine -->` (it starts an engine, which stays), `<!-- terminal: engine, after
//! kill -9 -->`, `<!-- terminal: both -->`, `<!-- once: COMMAND -->` (run as soon as this command succeeds), and without a
//! block of commands `<!-- put: FILE -->` (the page's blocks in the file's language, written to it).

use test_engine::root;

/// How a block is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// In the main terminal; as soon as this command succeeds, if one is given.
    Run { once: Option<String> },
    /// It starts an engine.
    Serve,
    /// The same, after the running engine was killed.
    ServeAgain,
    /// In both terminals.
    Both,
    /// It is not a command: the blocks of this page go into this file.
    Put(String),
    /// Not at all, for this reason.
    NotRun(String),
}

/// A block of commands.
#[derive(Debug)]
pub(crate) struct Block {
    /// The line at which it begins.
    pub(crate) line: usize,
    /// The commands.
    pub(crate) text: String,
    /// How they are run.
    pub(crate) how: How,
}

/// A page, or one chapter of it.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path in the repository.
    pub(crate) name: String,
    /// Its blocks of commands, in order.
    pub(crate) blocks: Vec<Block>,
    /// Language and text of its other blocks.
    others: Vec<(String, String)>,
}

impl Page {
    /// Reads a page of the repository, or only the chapter under the given heading.
    pub(crate) fn read(name: &str, chapter: Option<&str>) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        Self::parse(name, &text, chapter)
    }

    fn parse(name: &str, text: &str, chapter: Option<&str>) -> Self {
        let mut page = Self { name: name.to_owned(), blocks: Vec::new(), others: Vec::new() };
        let (mut inside, mut comment, mut is_here) = (None::<(usize, String, String)>, None, chapter.is_none());
        for (number, line) in (1..).zip(text.lines()) {
            match &mut inside {
                Some((_, _, text)) if line != "```" => text.push_str(&format!("{line}\n")),
                Some(_) => {
                    let (line, language, text) = inside.take().unwrap();
                    page.take(line, &language, text, comment.take());
                }
                None if line.starts_with("## ") && chapter.is_some() => is_here = chapter == Some(line),
                None if !is_here => {}
                None => match (line.strip_prefix("```"), line.strip_prefix("<!-- ")) {
                    (Some(language), _) => inside = Some((number, language.to_owned(), String::new())),
                    (_, Some(said)) => {
                        let said = said.trim_end_matches(" -->").to_owned();
                        match said.strip_prefix("put: ") {
                            Some(path) => {
                                let how = How::Put(path.to_owned());
                                page.blocks.push(Block { line: number, text: String::new(), how });
                            }
                            None => comment = Some(said),
                        }
                    }
                    _ => assert!(comment.is_none(), "{name}, line {number}: no block follows the comment"),
                },
            }
        }
        assert!(inside.is_none() && !page.blocks.is_empty(), "{name} has no blocks of commands, or one that is open");
        page
    }

    fn take(&mut self, line: usize, language: &str, text: String, comment: Option<String>) {
        if language != "sh" {
            self.others.push((language.to_owned(), text));
            return;
        }
        let how = match comment.as_deref() {
            None => How::Run { once: None },
            Some("terminal: engine") => How::Serve,
            Some("terminal: engine, after kill -9") => How::ServeAgain,
            Some("terminal: both") => How::Both,
            Some(said) => match (said.strip_prefix("once: "), said.strip_prefix("not run: ")) {
                (Some(command), _) => How::Run { once: Some(command.to_owned()) },
                (_, Some(why)) => How::NotRun(why.to_owned()),
                _ => panic!("{}, line {line}: nobody knows what `{said}` means", self.name),
            },
        };
        self.blocks.push(Block { line, text, how });
    }

    /// The page's blocks in the language of this file.
    pub(crate) fn sources(&self, path: &str) -> String {
        let language = if path.ends_with(".rs") { "rust" } else { "python" };
        let texts = self.others.iter().filter(|(of, _)| of == language).map(|(_, text)| text.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn no_block_is_skipped_in_silence() {
    let text = "```sh\nnot here\n```\n## Here\n```sh\na\nb\n```\ntext\n<!-- not run: it costs money -->\n```sh\nc\n```\n\
                <!-- once: ready -->\n```sh\nd\n```\n```rust\nfn f() {}\n```\n<!-- put: src/lib.rs -->\n\
                <!-- terminal: engine -->\n```sh\ne\n```\n## There\n```sh\nf\n```\n";
    let page = Page::parse("page", text, Some("## Here"));
    let run = |once: Option<&str>| How::Run { once: once.map(str::to_owned) };
    let expected = [
        (5, "a\nb\n", run(None)),
        (11, "c\n", How::NotRun("it costs money".to_owned())),
        (15, "d\n", run(Some("ready"))),
        (21, "", How::Put("src/lib.rs".to_owned())),
        (23, "e\n", How::Serve),
    ];
    assert_eq!(page.blocks.len(), expected.len(), "{page:#?}");
    for (block, (line, text, how)) in page.blocks.iter().zip(expected) {
        assert_eq!((block.line, block.text.as_str(), &block.how), (line, text, &how));
    }
    assert_eq!(page.sources("src/lib.rs"), "fn f() {}\n");
}
