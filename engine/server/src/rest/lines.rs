//! Answers of any length: one JSON text a line, written as they are read and no faster than the client reads.

use axum::Extension;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use tonic::Status;

use super::Problem;
use super::ask::Answer;
use crate::answers::Leaving;
use crate::json::{self, ToJson};
use crate::streams::Answers;

/// The content type of lines of JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// An answer of lines. A refusal before the first line is the answer's status; a later one is the last line, a problem.
pub(crate) async fn lines<T: ToJson + Send + 'static>(mut answers: Answers<T>) -> Answer {
    let first = answers.next().await.transpose()?;
    let leaving = answers.leaving();
    Ok(lines_of(futures::stream::iter(first.map(Ok)).chain(answers), leaving))
}

/// The same without waiting for the first line.
pub(crate) fn at_once<T: ToJson + Send + 'static>(answers: Answers<T>) -> Response {
    let leaving = answers.leaving();
    lines_of(answers, leaving)
}

fn lines_of<T: ToJson>(answers: impl Stream<Item = Result<T, Status>> + Send + 'static, leaving: Leaving) -> Response {
    let texts = answers.map(|answer| {
        let line = answer.map_or_else(|refused| Problem::from(refused).line(), |answer| json::of(&answer));
        Ok::<_, std::convert::Infallible>(line + "\n")
    });
    (Extension(leaving), [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(texts)).into_response()
}
