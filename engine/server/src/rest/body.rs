//! The bodies of requests: JSON of a bounded size, or bytes as they arrive.

use std::collections::HashMap;
use std::error::Error;
use std::marker::PhantomData;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tonic::{Code, Status};

use super::Problem;
use crate::kinds::too_large;

/// The largest JSON body, in bytes; the same as of a gRPC message.
pub(crate) const JSON_BYTES_MAX: usize = 4 << 20;

/// A JSON body. An empty body is `null`, or `{}` where that does not fit.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, JSON_BYTES_MAX).collect().await.map_err(|e| broken_body(&*e))?.to_bytes();
        if body.is_empty() {
            return parse(b"null").or_else(|_| parse(b"{}")).map(Self);
        }
        needs_type(&parts.headers, &["application/json"])?;
        parse(&body).map(Self)
    }
}

/// Reads JSON.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|e| Problem::invalid(format!("the body cannot be read: {e}")))
}

/// JSON as it was written, or nothing if it was left out.
pub(crate) fn written(json: Option<Box<RawValue>>) -> String {
    json.map(|json| json.get().to_owned()).unwrap_or_default()
}

/// Reads an object, or `null` for an empty one, whose names are there once each. Otherwise the last of them would count,
/// and a filter would mean something else than it says.
pub(crate) fn each_once<'de, D, T>(from: D) -> Result<HashMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = HashMap<String, T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(HashMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = HashMap::new();
            while let Some((name, value)) = map.next_entry::<String, T>()? {
                if members.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!("`{}` is there twice", name.escape_debug())));
                }
                members.insert(name, value);
            }
            Ok(members)
        }
    }

    from.deserialize_any(Members(PhantomData))
}

/// Refuses a body of another type. Web pages of others cannot send these types without asking first.
pub(crate) fn needs_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    let held = headers.get(header::CONTENT_TYPE).and_then(|held| held.to_str().ok()).unwrap_or_default();
    let essence = held.split(';').next().unwrap_or_default().trim();
    match types.iter().any(|of| essence.eq_ignore_ascii_case(of)) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!("the header `content-type` must be {}", types.join(" or ")),
        )),
    }
}

/// The bytes of a body as they arrive.
pub(crate) fn pieces(body: Body) -> impl futures::Stream<Item = Result<Bytes, Status>> + Send + Unpin {
    use futures::StreamExt;
    body.into_data_stream().map(|piece| piece.map_err(|error| status_of(&error)))
}

/// Why a body could not be read.
pub(crate) fn broken_body(error: &(dyn Error + 'static)) -> Problem {
    if is_too_long(error) {
        let mib = JSON_BYTES_MAX >> 20;
        return too_large(Code::InvalidArgument, format!("a JSON body may have at most {mib} MiB")).into();
    }
    Problem::from(status_of(error))
}

/// Whether a body was longer than it may be.
pub(crate) fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    cause::<LengthLimitError>(error).is_some()
}

/// The limit that a body met, or that it broke off.
pub(crate) fn status_of(error: &(dyn Error + 'static)) -> Status {
    let met: Option<&Status> = cause(error);
    met.cloned().unwrap_or_else(|| Status::cancelled("the request broke off"))
}

/// The cause of this type, if there is one.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    error.downcast_ref().or_else(|| cause(error.source()?))
}
