//! REST: every method of the service under `/v1`, with JSON bodies, and the OpenAPI document that describes it.
//!
//! A handler reads a request, calls the method of the same name and writes the answer as the command line prints it. The
//! id of an operation is the name of that method; the table of actions is thereby the same for both interfaces.

mod approvals;
mod ask;
mod body;
mod bulk;
mod components;
mod executions;
mod filter;
mod lines;
mod problem;
mod query;
mod secrets;
mod tenants;
mod views;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::routing::{any, get};
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::entries::{Entries, entry_of};
use crate::service::Service;
pub(crate) use body::{is_too_long, status_of};
pub(crate) use lines::NDJSON;
pub(crate) use problem::Problem;

/// Where everything of this interface is.
pub(crate) const PREFIX: &str = "/v1/";
/// The OpenAPI document; reading it needs no caller.
const DOCUMENT: &str = "/v1/openapi.json";

/// The service, as handlers get it.
type Shared = Arc<Service>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cerebelum",
        description = "Durable execution of workflows on WebAssembly. Times are RFC 3339 in UTC, durations are texts such as \
                   `2h30m`. A request is refused with a problem (RFC 9457), whose `code` is stable.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem))
)]
struct Document;

/// The routes, and what each of them does.
pub(crate) fn routes(service: Shared) -> (axum::Router, Entries) {
    let (router, document) = described();
    let text: Arc<str> = in_json(&document).into();
    let document_route = get(move || {
        let text = text.to_string();
        async move { ask::in_json(text) }
    });
    let router = router.with_state(service).route(DOCUMENT, document_route);
    let router = router.method_not_allowed_fallback(async || {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this path has no such method")
    });
    let unknown = async || Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such path");
    (router.route(PREFIX, any(unknown)).route("/v1/{*rest}", any(unknown)), entries(&document))
}

/// The OpenAPI document, as it is served and as it stands in the repository.
#[must_use]
pub fn openapi() -> String {
    in_json(&described().1)
}

fn in_json(document: &utoipa::openapi::OpenApi) -> String {
    document.to_pretty_json().expect("the document has text keys only")
}

fn described() -> (axum::Router<Shared>, utoipa::openapi::OpenApi) {
    let router = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(components::upload, components::list))
        .routes(routes!(components::show, components::remove))
        .routes(routes!(components::accept))
        .routes(routes!(executions::start, executions::list))
        .routes(routes!(executions::start_many))
        .routes(routes!(executions::status, executions::delete))
        .routes(routes!(executions::result))
        .routes(routes!(executions::events))
        .routes(routes!(executions::history))
        .routes(routes!(executions::logs))
        .routes(routes!(executions::signal))
        .routes(routes!(executions::cancel))
        .routes(routes!(executions::terminate))
        .routes(routes!(executions::pause))
        .routes(routes!(executions::resume))
        .routes(routes!(bulk::count))
        .routes(routes!(bulk::start, bulk::list))
        .routes(routes!(bulk::show))
        .routes(routes!(bulk::stop))
        .routes(routes!(views::save, views::list))
        .routes(routes!(views::delete))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::reject))
        .routes(routes!(approvals::create_link, approvals::links))
        .routes(routes!(approvals::revoke_link))
        .routes(routes!(tenants::who_am_i))
        .routes(routes!(tenants::create_token, tenants::tokens))
        .routes(routes!(tenants::revoke_token))
        .routes(routes!(tenants::create, tenants::list))
        .routes(routes!(tenants::show, tenants::delete))
        .routes(routes!(tenants::set_quotas))
        .routes(routes!(tenants::suspend))
        .routes(routes!(tenants::set_hosts))
        .routes(routes!(secrets::set, secrets::list))
        .routes(routes!(secrets::delete))
        .routes(routes!(secrets::rotate_key))
        .routes(routes!(tenants::nodes))
        .routes(routes!(tenants::audit));
    let (router, mut document) = router.split_for_parts();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    // An engine without tokens is open to its machine.
    let token = SecurityRequirement::new("token", [""; 0]);
    document.security = Some(vec![token, SecurityRequirement::default()]);
    (router, document)
}

fn entries(document: &utoipa::openapi::OpenApi) -> Entries {
    let mut found = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            let id = operation.operation_id.as_deref().expect("every operation has an id");
            found.push((method, path.clone(), entry_of(id)));
        }
    }
    found.into_iter().collect()
}

/// The operations of a path. Only these methods are used.
fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [(Method::GET, &item.get), (Method::POST, &item.post), (Method::DELETE, &item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::access::ACTIONS;

    #[test]
    fn every_method_of_the_service_has_an_operation_of_its_name() {
        let (_, document) = described();
        let mut ids: Vec<&str> = Vec::new();
        for item in document.paths.paths.values() {
            ids.extend(operations(item).filter_map(|(_, operation)| operation.operation_id.as_deref()));
            let unused = [&item.put, &item.patch, &item.options, &item.head, &item.trace];
            assert!(unused.into_iter().all(Option::is_none), "an operation with a method that is not in `operations`");
        }
        let methods: BTreeSet<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!((ids.len(), ids.into_iter().collect()), (methods.len(), methods));
    }

    #[test]
    fn the_document_in_the_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written.trim_end() == openapi(), "run: cerebelum help-openapi > docs/openapi.json");
    }
}
