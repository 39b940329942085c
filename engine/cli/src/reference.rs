//! The reference of all verbs and flags, `docs/cli.md`.

use std::path::Path;

use clap_markdown::MarkdownOptions;

use crate::args::Cli;
use crate::exit::{CliError, Outcome};

/// The script with which a shell completes verbs and flags.
pub(crate) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::shown(), "cerebelum", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the manual pages, `cerebelum.1` and one for each verb, into a folder.
pub(crate) fn manual(folder: &Path) -> Outcome {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::shown(), folder));
    written.map_err(|e| CliError::usage(format!("cannot write into {}: {e}", folder.display())))
}

/// The reference as Markdown.
pub(crate) fn markdown() -> String {
    let options = MarkdownOptions::new().title("The command line".to_owned()).show_footer(false);
    let body = clap_markdown::help_markdown_custom::<Cli>(&options);
    let lines: Vec<_> = body.trim_end().lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n")).replace("\n\n\n", "\n\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_in_the_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let current = super::markdown();
        assert!(written.trim_end() == current.trim_end(), "run: cerebelum help-markdown > docs/cli.md");
    }
}
