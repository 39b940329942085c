//! A request that asks a method of the service, and the answer as JSON.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Problem;
use super::query::Parameters;
use crate::client::{Client, Method};
use crate::json::{self, ToJson};
use crate::service::Service;

/// An answer, or why there is none.
pub(super) type Answer = Result<Response, Problem>;

/// A request: the service in the name of its caller, and the parameters behind the `?`.
pub(super) struct Ask {
    client: Client,
    pub(super) query: Parameters,
}

impl Ask {
    /// The service, unless there are parameters that the handler has not taken.
    pub(super) fn end(&self) -> Result<&Client, Problem> {
        self.query.end().map(|()| &self.client)
    }

    /// What a method of the service answers.
    pub(super) async fn show<'a, T, U: ToJson>(&'a self, method: impl Method<'a, T, U>, message: T) -> Answer {
        Ok(in_json(json::of(&self.end()?.ask(method, message).await?)))
    }

    /// That a method of the service has done something, of which there is nothing to show.
    pub(super) async fn done<'a, T, U>(&'a self, method: impl Method<'a, T, U>, message: T) -> Answer {
        self.end()?.ask(method, message).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

impl FromRequestParts<Arc<Service>> for Ask {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let client = Client::from_request_parts(parts, service).await?;
        Ok(Self { client, query: Parameters::from_request_parts(parts, service).await? })
    }
}

/// An answer of JSON.
pub(super) fn in_json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
