//! What a page does or shows, as commands for a shell, to be copied.

use cerebelum_worker::Caller;
use maud::{Markup, html};

use super::parts::{escaped, text};
use crate::json::compact;
use crate::proto;
use crate::wording::harmless;

/// A longer input is written as a file's name: the system bounds the length of an argument.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// The URL of the engine, which a page does not know for sure behind a proxy.
const URL: &str = "${CEREBELUM_URL%/}";

/// The commands that start this, with its times as they were typed.
pub(super) fn to_start(start: &proto::StartRequest, times: &[(&str, &str)], caller: &Caller) -> Markup {
    let input = if start.input.is_empty() { "null".to_owned() } else { harmless(&compact(&start.input)).into_owned() };
    let is_long = input.len() > INPUT_BYTES_MAX;
    let id = start.execution_id.as_deref().unwrap_or_default();
    let options = [("id", id)].into_iter().chain(times.iter().copied()).filter(|(_, value)| !value.is_empty());
    let mut attributes: Vec<_> = start.attributes.iter().map(|(name, value)| (name, harmless(value))).collect();
    attributes.sort_unstable();
    // With `=`, a value may begin with a dash.
    let mut command =
        format!("cerebelum start --input={}", if is_long { "@input.json".to_owned() } else { quoted(&input) });
    for (name, value) in &attributes {
        command += &format!(" --attr={}", quoted(&format!("{name}={value}")));
    }
    for (name, value) in options.clone() {
        command += &format!(" --{name}={}", quoted(value));
    }
    command += &format!(" -- {}", quoted(&start.workflow));
    let members = attributes.iter().map(|(name, value)| format!("{}: {value}", json(name))).collect::<Vec<_>>();
    let mut body = vec![format!("\"workflow\": {}", json(&start.workflow)), format!("\"input\": {input}")];
    body.extend((!members.is_empty()).then(|| format!("\"attributes\": {{{}}}", members.join(", "))));
    body.extend(options.map(|(name, value)| format!("\"{name}\": {}", json(value))));
    let curl = format!("--json {}", quoted(&format!("{{{}}}", body.join(", "))));
    html! {
        section.card #commands aria-label="The same as commands" {
            p { "Nothing has been started. The same from a shell:" }
            (shown(&command))
            @if is_long { p.note { "The input is too long for a command: write it to " code { "input.json" } "." } }
            @else { (with_curl(&curl, "/v1/executions", caller)) }
        }
    }
}

/// The commands that show this execution.
pub(super) fn to_show(id: &str, caller: &Caller) -> Markup {
    html! {
        details #commands {
            summary { "From a shell" }
            (shown(&format!("cerebelum watch -- {}", quoted(id))))
            (with_curl("", &format!("/v1/executions/{}", escaped(id)), caller))
        }
    }
}

/// A request with `curl`. The token itself is on no page.
fn with_curl(arguments: &str, path: &str, caller: &Caller) -> Markup {
    let has_token = caller.name.is_some();
    let token = if has_token { "--oauth2-bearer \"$CEREBELUM_TOKEN\"" } else { "" };
    let address = format!("\"{URL}{path}\"");
    let parts = ["curl --fail-with-body", arguments, token, &address];
    html! {
        (shown(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")))
        p.note {
            code { "curl" } " asks the engine that " code { "CEREBELUM_URL" } " names"
            @if has_token { ", with the token in " code { "CEREBELUM_TOKEN" } }
            ". " code { "cerebelum" } " knows the engine of " code { "cerebelum login" } " as well."
        }
    }
}

fn shown(command: &str) -> Markup {
    html! { pre.value.command tabindex="0" { (text(command)) } }
}

fn json(text: &str) -> String {
    harmless(&serde_json::Value::from(text).to_string()).into_owned()
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
