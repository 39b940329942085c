//! Refusals as problem details (RFC 9457), with codes that stay the same.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::Status;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::convert::cut;
use crate::kinds;

/// The content type of a problem.
const PROBLEM: &str = "application/problem+json";
/// The seconds after which a request that was refused for lack of room may be sent again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The status of the answer.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// The name of the status.
    title: &'static str,
    /// What kind of refusal it is; a program may rely on it.
    code: &'static str,
    /// The cause and the remedy, for a person.
    pub(super) detail: String,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title: status.canonical_reason().unwrap_or("Refused"), code, detail: cut(detail.into()) }
    }

    /// A request that cannot be understood.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// A request that does not come from where it may come from, or asks for another engine.
    pub(crate) fn from_guard(status: StatusCode, detail: &str) -> Self {
        let code = if status == StatusCode::FORBIDDEN { "forbidden" } else { "misdirected" };
        Self::new(status, code, detail)
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem on one line of an answer that has begun.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("a problem has text keys only")
    }
}

impl From<Status> for Problem {
    fn from(refused: Status) -> Self {
        let (status, code) = kinds::of(&refused);
        Self::new(status, code, refused.message())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer = (self.status, [(header::CONTENT_TYPE, PROBLEM)], self.line()).into_response();
        let headers = answer.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        answer
    }
}

/// The answers that every operation may give.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = RefOr::<Schema>::Ref(Ref::from_schema_name(Problem::name()));
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let refused = |why| ResponseBuilder::new().description(why).content(PROBLEM, content.clone()).build().into();
        BTreeMap::from([
            ("4XX".to_owned(), refused("The request was refused.")),
            ("5XX".to_owned(), refused("The engine cannot answer at the moment.")),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_and_how_to_ask_again() {
        let answer = |status: Status| Problem::from(status).into_response();
        let busy = answer(Status::unavailable("x"));
        assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
        let full = answer(Status::resource_exhausted("x"));
        assert_eq!((full.status().as_u16(), &full.headers()["retry-after"]), (429, &HeaderValue::from_static("1")));
        let unknown = answer(Status::unauthenticated("x"));
        assert_eq!(unknown.headers()["www-authenticate"], "Bearer");
        let line = Problem::from(Status::not_found("no \"x\"")).line();
        assert_eq!(line, r#"{"status":404,"title":"Not Found","code":"not-found","detail":"no \"x\""}"#);
    }
}
