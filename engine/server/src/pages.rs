//! Pages: what a person sees of the engine in a browser, and does there.
//!
//! A page asks the method of the service that a program would ask, in the name of the same caller, and lays the answer
//! out as HTML. Each page can be read and each form can be sent without scripts; a script keeps a page up to date.

mod act;
mod approvals;
mod as_of;
mod assets;
mod audit;
mod bulk;
mod commands;
mod components;
mod execution;
mod executions;
mod export;
mod form;
mod found;
mod graph;
mod history;
mod layout;
mod link;
mod logs;
mod nodes;
mod overview;
mod parts;
mod read;
mod refusal;
mod secrets;
pub(crate) mod session;
mod start;
mod tenants;
mod timeline;
mod tokens;
mod tree;
mod value;
mod views;
mod wanted;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRef};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{MethodFilter, on};
use tonic::Status;

use crate::client::{self, Client, Verbs};
use crate::convert::refusal;
use crate::entries::{Entries, Entry, entry_of};
use crate::guard::Origins;
use crate::proto;
use crate::service::Service;
use crate::trace_url::TraceUrl;
use refusal::Refusal;
pub(crate) use refusal::{bounce, refused};

/// The largest form, in bytes. A value of 1 MiB may become three times as long on its way.
pub(crate) const FORM_BYTES_MAX: usize = 4 << 20;

/// The page of an approval link.
pub(crate) const LINK: &str = "/a/{token}";

/// What pages are made from.
#[derive(Clone)]
struct Site {
    service: Arc<Service>,
    origins: Origins,
    trace_url: Option<TraceUrl>,
}

impl FromRef<Site> for Arc<Service> {
    fn from_ref(site: &Site) -> Self {
        site.service.clone()
    }
}

impl Client {
    /// An execution as lists show it.
    async fn summary(&self, id: &str) -> Result<proto::Summary, Status> {
        Ok(self.engine().summary(id).await.map_err(refusal)?.into())
    }

    /// Does what a method of the service does, and goes to the page with this path.
    async fn change<'a, T, U>(&'a self, method: impl client::Method<'a, T, U>, message: T, to: &str) -> Shown {
        self.ask(method, message).await?;
        Ok(Redirect::to(to).into_response())
    }
}

/// The pages, and who may see each of them.
pub(crate) fn routes(
    service: Arc<Service>,
    (origins, trace_url): (Origins, Option<TraceUrl>),
) -> (axum::Router, Entries) {
    let pages = pages();
    let router = pages.router.layer(DefaultBodyLimit::max(FORM_BYTES_MAX)).layer(from_fn(refusal::in_frame));
    let router = router.with_state(Site { service, origins, trace_url });
    (router, pages.entries.into_iter().collect())
}

fn pages() -> Pages {
    Pages::default()
        .open("/login", session::show)
        .open_form("/login", session::login)
        .open_form("/logout", session::logout)
        .open(assets::PATH, assets::get)
        .open(LINK, link::show)
        .open_form(LINK, link::decide)
        .page("/", "List", overview::show)
        .page("/executions", "List", executions::show)
        .page("/executions.csv", "List", export::csv)
        .page("/executions.ndjson", "List", export::ndjson)
        .form("/views", "SaveView", views::save)
        .form("/views/{name}/delete", "DeleteView", views::delete)
        .page("/executions/{id}", "Status", execution::show)
        .page("/executions/{id}/changes", "Watch", execution::changes)
        .page("/executions/{id}/timeline", "History", timeline::show)
        .page("/executions/{id}/graph", "History", graph::show)
        .page("/executions/{id}/history", "History", history::show)
        .page("/executions/{id}/history.ndjson", "History", export::history)
        .page("/executions/{id}/events/{position}", "History", history::event)
        .page("/executions/{id}/value/input", "Status", value::input)
        .page("/executions/{id}/value/output", "Status", value::output)
        .page("/executions/{id}/value/failure", "Status", value::failure)
        .page("/executions/{id}/value/{position}", "History", value::of_event)
        .page("/executions/{id}/at", "History", as_of::go)
        .page("/executions/{id}/at/{position}", "History", as_of::show)
        .page("/executions/{id}/logs", "Logs", logs::show)
        .page("/executions/{id}/logs.ndjson", "Logs", export::logs)
        .page("/executions/{id}/tree", "List", tree::show)
        .form("/executions/{id}/cancel", "Cancel", act::cancel)
        .form("/executions/{id}/terminate", "Terminate", act::terminate)
        .form("/executions/{id}/pause", "Pause", act::pause)
        .form("/executions/{id}/resume", "Resume", act::resume)
        .form("/executions/{id}/delete", "Delete", act::delete)
        .form("/executions/{id}/signal", "Signal", act::signal)
        .page("/bulk-form", "Count", bulk::form)
        .page("/bulk", "BulkJobs", bulk::list)
        .form("/bulk", "StartBulk", bulk::start)
        .page("/bulk/{id}", "ShowBulk", bulk::show)
        .form("/bulk/{id}/stop", "StopBulk", bulk::stop)
        .page("/approvals", "Approvals", approvals::show)
        .form("/approvals/{id}/approve", "Approve", approvals::approve)
        .form("/approvals/{id}/reject", "Reject", approvals::reject)
        .page("/components", "Components", components::show)
        .form("/components/{name}/accept", "AcceptComponent", components::accept)
        .page("/audit", "Audit", audit::show)
        .page("/nodes", "Nodes", nodes::show)
        .page("/secrets", "Secrets", secrets::show)
        .form("/secrets", "SetSecret", secrets::set)
        .form("/secrets/{name}/delete", "DeleteSecret", secrets::delete)
        .page("/tenants", "Tenants", tenants::list)
        .form("/tenants", "CreateTenant", tenants::create)
        .page("/tenants/{name}", "ShowTenant", tenants::show)
        .form("/tenants/{name}/suspend", "SuspendTenant", tenants::suspend)
        .form("/tenants/{name}/delete", "DeleteTenant", tenants::delete)
        .form("/tenants/{name}/quotas", "SetQuotas", tenants::set_quota)
        .form("/tenants/{name}/hosts", "SetHosts", tenants::set_hosts)
        .page("/tokens", "Tokens", tokens::show)
        .form("/tokens", "CreateToken", tokens::create)
        .form("/tokens/{id}/revoke", "RevokeToken", tokens::revoke)
        .page("/start/{component}/{workflow}", "Components", start::show)
        .form("/start/{component}/{workflow}", "Start", start::start)
}

/// Pages and forms as they are added.
#[derive(Default)]
struct Pages {
    router: axum::Router<Site>,
    entries: Vec<(Method, String, Entry)>,
}

impl Pages {
    /// A page that shows what a method of the service answers.
    fn page<T: 'static>(self, path: &str, method: &str, handler: impl Handler<T, Site>) -> Self {
        self.with((Method::GET, MethodFilter::GET), path, entry_of(method), handler)
    }

    /// A form that does what a method of the service does.
    fn form<T: 'static>(self, path: &str, method: &str, handler: impl Handler<T, Site>) -> Self {
        self.with((Method::POST, MethodFilter::POST), path, entry_of(method), handler)
    }

    fn open<T: 'static>(self, path: &str, handler: impl Handler<T, Site>) -> Self {
        self.with((Method::GET, MethodFilter::GET), path, Entry::Anyone, handler)
    }

    fn open_form<T: 'static>(self, path: &str, handler: impl Handler<T, Site>) -> Self {
        self.with((Method::POST, MethodFilter::POST), path, Entry::Anyone, handler)
    }

    fn with<T: 'static>(
        mut self,
        (method, filter): (Method, MethodFilter),
        path: &str,
        entry: Entry,
        handler: impl Handler<T, Site>,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.entries.push((method, path.to_owned(), entry));
        self
    }
}

type Shown = Result<axum::response::Response, Refusal>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_in_the_docs_has_every_page_with_its_method() {
        let docs = include_str!("../../../docs/pages.md");
        let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
        let rows = docs.lines().filter(|line| line.contains("| `GET /") || line.contains("| `POST /"));
        let written: BTreeSet<_> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').collect();
                (cell(cells[2]), format!("{:?}", entry_of(&cell(cells[3]))))
            })
            .collect();
        let entries = pages().entries.into_iter().filter(|(.., entry)| *entry != Entry::Anyone);
        let built: BTreeSet<_> =
            entries.map(|(method, path, entry)| (format!("{method} {path}"), format!("{entry:?}"))).collect();
        assert_eq!(written, built);
    }
}
