//! The kinds of refusals: codes on which programs may rely, the same over REST and over gRPC.

use axum::http::{HeaderMap, StatusCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who gives a code its meaning, in the details of a refusal over gRPC.
const DOMAIN: &str = "cerebelum";
/// The header of gRPC that holds these details.
const DETAILS: &str = "grpc-status-details-bin";
const TOO_LARGE: &str = "too-large";

/// The refusal of something that is too large, with the given code of gRPC.
pub(crate) fn too_large(code: Code, message: impl Into<String>) -> Status {
    with_details(TOO_LARGE, code, message)
}

/// The status and the code of a refusal over REST.
pub(crate) fn of(refused: &Status) -> (StatusCode, &'static str) {
    let is_too_large = || refused.get_details_error_info().is_some_and(|info| info.reason == reason(TOO_LARGE));
    match refused.code() {
        _ if is_too_large() => (StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE),
        Code::InvalidArgument | Code::OutOfRange | Code::Cancelled => (StatusCode::BAD_REQUEST, "invalid"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not-found"),
        Code::FailedPrecondition | Code::AlreadyExists => (StatusCode::CONFLICT, "conflict"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "forbidden"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "quota"),
        Code::DeadlineExceeded => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// Adds the code to the headers or trailers of a gRPC answer, if it is a refusal that does not have one.
pub(crate) fn explain(headers: &mut HeaderMap) {
    let Some(refused) = Status::from_header_map(headers).filter(|refused| refused.code() != Code::Ok) else { return };
    if !refused.details().is_empty() {
        return;
    }
    let mut explained = HeaderMap::new();
    if with_details(of(&refused).1, refused.code(), refused.message()).add_header(&mut explained).is_ok()
        && let Some(details) = explained.remove(DETAILS)
    {
        headers.insert(DETAILS, details);
    }
}

fn with_details(code: &str, grpc: Code, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason(code), DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(grpc, message, details)
}

/// A code as `google.rpc.ErrorInfo` writes it.
fn reason(code: &str) -> String {
    code.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_over_grpc_says_its_code_and_keeps_the_rest() {
        for (refused, expected) in [
            (Status::not_found("no \"x\""), "NOT_FOUND"),
            (Status::unauthenticated("who?"), "UNAUTHENTICATED"),
            (too_large(Code::FailedPrecondition, "64 MiB"), "TOO_LARGE"),
        ] {
            let mut headers = HeaderMap::new();
            refused.add_header(&mut headers).unwrap();
            explain(&mut headers);
            let told = Status::from_header_map(&headers).unwrap();
            assert_eq!((told.code(), told.message()), (refused.code(), refused.message()));
            let info = told.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (expected, "cerebelum"));
        }
        let mut well = HeaderMap::new();
        Status::ok("").add_header(&mut well).unwrap();
        let before = well.clone();
        explain(&mut well);
        assert_eq!(well, before);
        assert_eq!(of(&too_large(Code::InvalidArgument, "4 MiB")).0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
