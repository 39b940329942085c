//! Components: what can be started, what asks for which rights, and the versions that were before.

use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame, Live, may};
use super::overview::FIRST_COMMANDS;
use super::parts::{escaped, moment, text};
use super::read::{Form, Path};
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::Now;

/// The names that are shown of a long list.
const NAMES_MAX: usize = 100;

pub(super) async fn show(client: Client) -> Shown {
    let all = client.ask(Verbs::components, proto::ComponentsRequest {}).await?;
    let now = Now::measured();
    // The current one of each name comes first.
    let names = all.components.chunk_by(|one, other| one.name == other.name);
    let body = html! {
        h1 { "Components" }
        section #list data-live {
            @if all.components.is_empty() {
                p.lead { "No component has been uploaded yet." }
                pre.value tabindex="0" { (FIRST_COMMANDS) }
            }
            @for versions in names { (card(versions, client.caller(), now)) }
        }
    };
    let frame = Frame::new("Components", client.caller(), "Components").live(Live::Often);
    Ok(layout::page(&frame, &body))
}

/// All versions of a name.
fn card(versions: &[proto::Component], caller: &Caller, now: Now) -> Markup {
    let name = versions.first().map_or("", |version| &version.name);
    let others: Vec<_> = versions.iter().filter(|version| !version.current && !version.proposed).collect();
    html! {
        article.card id={ "c-" (name) } {
            h2 { (text(name)) }
            @for component in versions.iter().filter(|version| version.current) { (current(component, caller, now)) }
            @for component in versions.iter().filter(|version| version.proposed).take(NAMES_MAX) {
                (proposed(component, caller, now))
            }
            @if !others.is_empty() {
                details id={ "o-" (name) } {
                    summary { (others.len()) " other " (if others.len() == 1 { "version" } else { "versions" }) }
                    @for component in others.iter().take(NAMES_MAX) { (unused(component, caller, now)) }
                }
            }
        }
    }
}

/// A version that new executions do not use.
fn unused(component: &proto::Component, caller: &Caller, now: Now) -> Markup {
    html! {
        (version(component, now))
        @if !component.not_granted.is_empty() { dl.facts { (named("Not granted", &component.not_granted)) } }
        @if may(caller, Action::Accept) { (accept_form(component, "Make current")) }
    }
}

/// The button that makes a version the current one, with all that it asks for.
fn accept_form(component: &proto::Component, button: &str) -> Markup {
    let short = component.digest.get(..12).unwrap_or_default();
    html! {
        form method="post" action={ "/components/" (escaped(&component.name)) "/accept" } {
            input type="hidden" name="digest" value=(component.digest);
            button aria-label={ (button) " " (text(&component.name)) " " (short) } { (button) }
        }
    }
}

/// A version that waits to be accepted.
fn proposed(component: &proto::Component, caller: &Caller, now: Now) -> Markup {
    html! {
        h3 { "Proposed version" }
        (version(component, now))
        dl.facts { (named("New", &component.not_granted)) }
        @if may(caller, Action::Accept) {
            (accept_form(component, "Accept"))
        } @else { p.note { "An admin may accept it." } }
    }
}

/// The version that a person accepts.
#[derive(Deserialize)]
pub(super) struct Accepted {
    digest: String,
}

pub(super) async fn accept(
    client: Client,
    Path(name): Path<String>,
    Form(Accepted { digest }): Form<Accepted>,
) -> Shown {
    client.change(Verbs::accept_component, proto::AcceptComponentRequest { name, digest }, "/components").await
}

fn current(component: &proto::Component, caller: &Caller, now: Now) -> Markup {
    let hidden = component.workflows.len().saturating_sub(NAMES_MAX);
    html! {
            (version(component, now))
            ul.plain aria-label="Workflows" {
                @for workflow in component.workflows.iter().take(NAMES_MAX) {
                    @let full = format!("{}/{workflow}", component.name);
                    li {
                        strong { (text(workflow)) } " "
                        @if may(caller, Action::Run) {
                            a href={ "/start/" (escaped(&component.name)) "/" (escaped(workflow)) } { "Start" } " · "
                        }
                        a href={ "/executions?workflow=" (escaped(&full)) } { "Executions" }
                    }
                }
                @if hidden > 0 { li.note { (hidden) " more" } }
            }
            dl.facts {
                @if !component.steps.is_empty() { (named("Steps", &component.steps)) }
                @if !component.capabilities.is_empty() { (named("Asks for", &component.capabilities)) }
                @if !component.not_granted.is_empty() { (named("Not granted", &component.not_granted)) }
            }
    }
}

fn named(what: &str, names: &[String]) -> Markup {
    let hidden = names.len().saturating_sub(NAMES_MAX);
    html! {
        div {
            dt { (what) }
            dd {
                @for name in names.iter().take(NAMES_MAX) { code { (text(name)) } " " }
                @if hidden > 0 { span.note { (hidden) " more" } }
            }
        }
    }
}

fn version(component: &proto::Component, now: Now) -> Markup {
    let short = component.digest.get(..12).unwrap_or_default();
    html! {
        p.note {
            code title=(component.digest) { (text(short)) } " · " (size(component.size))
            " · uploaded " (moment(component.uploaded_at.as_ref(), now))
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}
