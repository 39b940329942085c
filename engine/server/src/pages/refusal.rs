//! Pages for requests that are refused, and for those that come from elsewhere.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use cerebelum_worker::Caller;
use maud::{DOCTYPE, html};
use tonic::{Code, Status};

use super::layout::{self, Frame};
use super::parts::{escaped, text};
use crate::access::Access;
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
        let refused = Refused { status: Problem::from(self.0).status(), why };
        let mut response = refused.page(None);
        response.extensions_mut().insert(refused);
        response
    }
}

/// What a page says that cannot be shown.
#[derive(Debug, Clone)]
struct Refused {
    status: StatusCode,
    why: String,
}

impl Refused {
    /// The page, with the navigation of a reader who is known.
    fn page(&self, reader: Option<&Caller>) -> Response {
        let heading = match self.status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::CONFLICT => "Not possible now",
            StatusCode::BAD_REQUEST => "Not understood",
            StatusCode::SERVICE_UNAVAILABLE => "The engine cannot answer now; nothing is lost",
            StatusCode::TOO_MANY_REQUESTS => "Too much at once",
            _ => "Refused",
        };
        let frame = reader.map_or_else(|| Frame::bare(heading), |reader| Frame::new(heading, reader, ""));
        let page = layout::page(
            &frame,
            &html! {
                section.card.alone {
                    h1 { (heading) }
                    p.lead { (text(&self.why)) }
                    p { a href="/" { "To the overview" } }
                }
            },
        );
        (self.status, page).into_response()
    }
}

/// Puts the navigation around a refusal, for a reader who was let in.
pub(super) async fn in_frame(request: Request, next: Next) -> Response {
    let access = request.extensions().get::<Access>().cloned();
    let response = next.run(request).await;
    let refused = response.extensions().get::<Refused>();
    refused.zip(access).map(|(refused, access)| refused.page(Some(&access.caller))).unwrap_or(response)
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
