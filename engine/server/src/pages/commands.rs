//! What a page does or shows, as commands for a shell, to be copied.

use cerebelum_worker::Caller;
use maud::{Markup, html};

use super::parts::{escaped, text};
use crate::json::compact;
use crate::proto;

/// A longer input is written as a file's name: the system bounds the length of an argument.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// The URL of the engine, as the command line finds it.
const URL: &str = "${CEREBELUM_URL:-http://127.0.0.1:9090}";

/// The commands that start this.
pub(super) fn to_start(start: &proto::StartRequest, delay: &str, caller: &Caller) -> Markup {
    let input = if start.input.is_empty() { "null".to_owned() } else { compact(&start.input) };
    let is_long = input.len() > INPUT_BYTES_MAX;
    let mut attributes: Vec<_> = start.attributes.iter().collect();
    attributes.sort_unstable();
    let mut command = format!("cerebelum start {}", quoted(&start.workflow));
    command += &format!(" --input {}", if is_long { "@input.json".to_owned() } else { quoted(&input) });
    for (name, value) in &attributes {
        command += &format!(" --attr {}", quoted(&format!("{name}={value}")));
    }
    let named = [("--id", start.execution_id.as_deref().unwrap_or_default()), ("--delay", delay)];
    for (flag, value) in named.iter().filter(|(_, value)| !value.is_empty()) {
        command += &format!(" {flag} {}", quoted(value));
    }
    let members = attributes.iter().map(|(name, value)| format!("{}: {value}", json(name))).collect::<Vec<_>>();
    let mut body = vec![format!("\"workflow\": {}", json(&start.workflow)), format!("\"input\": {input}")];
    body.extend((!members.is_empty()).then(|| format!("\"attributes\": {{{}}}", members.join(", "))));
    let named = [("id", start.execution_id.as_deref().unwrap_or_default()), ("delay", delay)];
    let named = named.iter().filter(|(_, value)| !value.is_empty());
    body.extend(named.map(|(name, value)| format!("\"{name}\": {}", json(value))));
    let body = quoted(&format!("{{{}}}", body.join(", ")));
    html! {
        section.card #commands aria-label="The same as commands" {
            p { "Nothing has been started. The same from a shell:" }
            (shown(&command))
            @if is_long { p.note { "The input is too long for a command: write it to " code { "input.json" } "." } }
            @else { (shown(&format!("curl -f --json {body}{} {}", token(caller), url("/v1/executions")))) }
        }
    }
}

/// The commands that show this execution.
pub(super) fn to_show(id: &str, caller: &Caller) -> Markup {
    let (path, id) = (format!("/v1/executions/{}", escaped(id)), quoted(id));
    html! {
        details #commands {
            summary { "From a shell" }
            (shown(&format!("cerebelum watch {id}")))
            (shown(&format!("curl -f{} {}", token(caller), url(&path))))
        }
    }
}

fn shown(command: &str) -> Markup {
    html! { pre.value tabindex="0" { (text(command)) } }
}

fn url(path: &str) -> String {
    format!("\"{URL}{path}\"")
}

/// The header of those who need a token. The token itself is on no page.
fn token(caller: &Caller) -> &'static str {
    if caller.name.is_some() { " -H \"authorization: Bearer $CEREBELUM_TOKEN\"" } else { "" }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One argument of a shell.
fn quoted(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_wrote_stays_one_argument() {
        for (argument, expected) in [
            ("hello/greet", "hello/greet"),
            ("", "''"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's; reboot", r"'it'\''s; reboot'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quoted(argument), expected);
        }
    }
}
