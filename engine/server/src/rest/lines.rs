//! Answers of any length: one JSON text a line, written as they are read and no faster than the client reads.

use axum::Extension;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use tonic::Status;

use super::Problem;
use crate::answers::Leaving;
use crate::streams::Answers;

/// The content type of lines of JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// An answer of lines. A refusal before the first line is the answer's status; a later one is the last line, a problem.
pub(crate) async fn lines<T: Send + 'static>(
    mut answers: Answers<T>,
    write: impl Fn(&T) -> String + Send + 'static,
) -> Result<Response, Problem> {
    let first = answers.next().await.transpose()?;
    let leaving = answers.leaving();
    let answers = futures::stream::iter(first.map(Ok)).chain(answers);
    Ok(lines_of(answers, leaving, write))
}

/// The same without waiting for the first line.
pub(crate) fn at_once<T: Send + 'static>(
    answers: Answers<T>,
    write: impl Fn(&T) -> String + Send + 'static,
) -> Response {
    let leaving = answers.leaving();
    lines_of(answers, leaving, write)
}

fn lines_of<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    leaving: Leaving,
    write: impl Fn(&T) -> String + Send + 'static,
) -> Response {
    let texts = answers.map(move |answer| {
        let mut line = answer.map_or_else(|refused| Problem::from(refused).line(), |answer| write(&answer));
        line.push('\n');
        Ok::<_, std::convert::Infallible>(line)
    });
    (Extension(leaving), [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(texts)).into_response()
}
