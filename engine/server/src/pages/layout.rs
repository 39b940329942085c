//! The frame of every page: head, navigation, and the headers that keep others out.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cerebelum_worker::{Action, Caller};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::parts::text;

/// Everything comes from this engine, scripts may not make markup except in one marked place, and no page of others may
/// frame this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types cerebelum";

/// What stands around a page.
pub(super) struct Frame<'a> {
    /// The title of the window.
    title: String,
    /// The reader; none on pages that need no token.
    caller: Option<&'a Caller>,
    /// The entry of the navigation that this page belongs to.
    section: &'static str,
    /// How the page is kept up to date.
    live: Live,
}

/// How a page is kept up to date.
pub(super) enum Live {
    /// It is not.
    No,
    /// It is asked for again every few seconds.
    Often,
    /// It is asked for again after each change that this stream tells.
    Changes(String),
}

impl<'a> Frame<'a> {
    /// A page for a caller.
    pub(super) fn new(title: impl Into<String>, caller: &'a Caller, section: &'static str) -> Self {
        Self { title: title.into(), caller: Some(caller), section, live: Live::No }
    }

    /// A page without navigation.
    pub(super) fn bare(title: impl Into<String>) -> Self {
        Self { title: title.into(), caller: None, section: "", live: Live::No }
    }

    /// The same, kept up to date.
    pub(super) fn live(self, live: Live) -> Self {
        Self { live, ..self }
    }
}

/// A whole page.
pub(super) fn page(frame: &Frame, body: &Markup) -> Response {
    let changes = if let Live::Changes(path) = &frame.live { Some(path) } else { None };
    let is_live = !matches!(frame.live, Live::No);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(&frame.title)) " · Cerebelum" }
                link rel="icon" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("pages.css"));
                script type="module" src=(assets::url("pages.js")) {}
            }
            body {
                a.skip href="#main" { "To the content" }
                @if let Some(caller) = frame.caller { (navigation(caller, frame.section)) }
                main #main data-changes=[changes] data-often[matches!(frame.live, Live::Often)] { (body) }
                footer {
                    @if is_live { p #live role="status" { "Reload the page to see what has changed." } }
                }
            }
        }
    };
    with_headers(page)
}

fn navigation(caller: &Caller, section: &str) -> Markup {
    let entries = [
        ("/", "Overview", Action::Read),
        ("/executions", "Executions", Action::Read),
        ("/approvals", "Approvals", Action::Read),
        ("/components", "Components", Action::Read),
        ("/audit", "Audit", Action::Audit),
        ("/secrets", "Secrets", Action::Secrets),
        ("/tokens", "Tokens", Action::Tokens),
        ("/tenants", "Tenants", Action::Tenants),
        ("/nodes", "Nodes", Action::Metrics),
    ];
    html! {
        header {
            nav aria-label="Main" {
                a.brand href="/" { img src=(assets::url("icon.svg")) alt="" width="20" height="20"; "Cerebelum" }
                @for (path, name, _) in entries.into_iter().filter(|(.., action)| may(caller, *action)) {
                    a href=(path) aria-current=[(section == name).then_some("page")] { (name) }
                }
            }
            div.caller {
                @if let Some(name) = &caller.name {
                    span { (text(name)) " · " (caller.role.as_str()) " of " (text(&caller.tenant_name)) }
                    form method="post" action="/logout" { button.link { "Log out" } }
                } @else {
                    span title="No token has been created yet" { "Open to this machine" }
                }
            }
        }
    }
}

/// Whether the reader may do this; what a reader may not do is not offered.
pub(super) fn may(caller: &Caller, action: Action) -> bool {
    caller.check(action).is_ok()
}

/// A page with the headers that every page has.
pub(super) fn with_headers(page: Markup) -> Response {
    let fixed = HeaderValue::from_static;
    let mut answer = page.into_string().into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, fixed("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, fixed(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::REFERRER_POLICY, fixed("same-origin"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin"));
    answer
}
