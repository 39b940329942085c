//! Pages for requests that are refused, and for those that come from elsewhere.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{DOCTYPE, html};
use tonic::{Code, Status};

use super::layout::{self, Frame};
use super::parts::{escaped, text};
use crate::rest::Problem;

/// Why a page cannot be shown, or a form not be carried out.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Status);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let why = self.0.message().to_owned();
        let status = Problem::from(self.0).status();
        let heading = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::CONFLICT => "Not possible now",
            StatusCode::BAD_REQUEST => "Not understood",
            StatusCode::SERVICE_UNAVAILABLE => "The engine cannot answer now; nothing is lost",
            StatusCode::TOO_MANY_REQUESTS => "Too much at once",
            _ => "Refused",
        };
        let page = layout::page(
            &Frame::bare(heading),
            &html! {
                section.card.alone {
                    h1 { (heading) }
                    p.lead { (text(&why)) }
                    p { a href="/" { "To the overview" } }
                }
            },
        );
        (status, page).into_response()
    }
}

/// The answer to a request for a page that is not let in. A reader without a token is asked for one.
pub(crate) fn refused(refused: Status, request: &Request) -> Response {
    if refused.code() == Code::Unauthenticated && *request.method() == Method::GET {
        let to = request.uri().path_and_query().map_or("/", |path| path.as_str());
        return Redirect::to(&format!("/login?to={}", escaped(to))).into_response();
    }
    Refusal(refused).into_response()
}

/// A page that asks for itself again, so that the request comes from this engine, with the reader's cookie.
pub(crate) fn bounce() -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="0";
                title { "Cerebelum" }
            }
            body { p { "One moment …" } }
        }
    };
    layout::with_headers(page)
}
