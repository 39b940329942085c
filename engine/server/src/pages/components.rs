//! Components: what can be started, what asks for which rights, and the versions that were before.

use axum::extract::State;
use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};

use super::layout::{self, Frame, Live, may};
use super::overview::FIRST_COMMANDS;
use super::parts::{escaped, moment, text};
use super::{Shown, Site};
use crate::access::Access;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;
use crate::wording::Now;

/// The names that are shown of a long list.
const NAMES_MAX: usize = 100;

pub(super) async fn show(State(site): State<Site>, access: Access) -> Shown {
    let all = site.service.components(asked(access.clone(), proto::ComponentsRequest {})).await?.into_inner();
    let now = Now::measured();
    let current = all.components.iter().filter(|component| component.current);
    let body = html! {
        h1 { "Components" }
        section #list data-live {
            @if all.components.is_empty() {
                p.lead { "No component has been uploaded yet." }
                pre.value tabindex="0" { (FIRST_COMMANDS) }
            }
            @for component in current {
                @let older = all.components.iter().filter(|other| other.name == component.name && !other.current);
                (card(component, &older.collect::<Vec<_>>(), &access.caller, now))
            }
        }
    };
    let frame = Frame::new("Components", &access.caller, "Components").live(Live::Often);
    Ok(layout::page(&frame, &body))
}

fn card(component: &proto::Component, older: &[&proto::Component], caller: &Caller, now: Now) -> Markup {
    let hidden = component.workflows.len().saturating_sub(NAMES_MAX);
    html! {
        article.card id={ "c-" (component.name) } {
            h2 { (text(&component.name)) }
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
            }
            @if !older.is_empty() {
                details id={ "o-" (component.name) } {
                    summary { (older.len()) " older " (if older.len() == 1 { "version" } else { "versions" }) }
                    @for component in older.iter().take(NAMES_MAX) { (version(component, now)) }
                }
            }
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
