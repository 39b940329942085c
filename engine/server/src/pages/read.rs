//! What a request for a page brings along, refused with a page if it cannot be read.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::Refusal;

macro_rules! of_the_head {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub(super) struct $name<T>(pub(super) T);

        impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for $name<T> {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
                let read = axum::extract::$name::<T>::from_request_parts(parts, state).await;
                read.map(|read| Self(read.0)).map_err(|refused| Refusal(Status::invalid_argument(refused.body_text())))
            }
        }
    };
}

of_the_head!(
    /// The parts of the path.
    Path
);
of_the_head!(
    /// The query.
    Query
);

/// The fields of a form.
pub(super) struct Form<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = axum::Form::<T>::from_request(request, state).await;
        read.map(|read| Self(read.0)).map_err(|refused| Refusal(Status::invalid_argument(refused.body_text())))
    }
}
