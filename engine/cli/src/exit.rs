//! How the program ends after an error: one line on stderr, and an exit code for scripts.

use std::fmt;

/// The result of a verb.
pub(crate) type Outcome<T = ()> = Result<T, CliError>;

/// The exit codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The execution failed or was cancelled; the build failed.
    Failed = 1,
    /// The command is not valid as written.
    Usage = 2,
    /// There is nothing of the given name or id.
    NotFound = 3,
    /// The engine is not reachable, or in trouble itself.
    Unreachable = 4,
    /// The engine refused the request: conflict, limit, permission.
    Refused = 5,
}

/// Why the program stops, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct CliError {
    /// The exit code; none when the reader of our output has gone, which is not a failure of this program.
    pub(crate) code: Option<Code>,
    /// One line for stderr.
    pub(crate) line: String,
}

impl CliError {
    pub(crate) fn new(code: Code, line: impl Into<String>) -> Self {
        Self { code: Some(code), line: line.into() }
    }

    pub(crate) fn failed(line: impl Into<String>) -> Self {
        Self::new(Code::Failed, line)
    }

    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self::new(Code::Usage, line)
    }

    /// The reader of our output (`head`, a pager) has closed it.
    pub(crate) fn unread() -> Self {
        Self { code: None, line: String::new() }
    }

    /// Converts a gRPC error; `url` is the engine's address.
    pub(crate) fn from_status(status: &tonic::Status, url: &str) -> Self {
        use tonic::Code as Grpc;
        if is_lost(status) {
            let why = match is_of_proxy(status) {
                true => "a proxy answers in its place".to_owned(),
                false => root_cause(status),
            };
            if why.contains("fatal alert") {
                // With TLS 1.3 the other side refuses a client's certificate after the client has connected.
                let line = format!(
                    "the engine at {url} refuses the connection ({why}): it wants a certificate that an authority of its own has signed, by --client-cert"
                );
                return Self::new(Code::Unreachable, line);
            }
            return Self::new(Code::Unreachable, format!("lost the engine at {url} ({why}); is it still running?"));
        }
        let code = match status.code() {
            Grpc::InvalidArgument => Code::Usage,
            Grpc::NotFound => Code::NotFound,
            Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Internal | Grpc::Unknown | Grpc::DataLoss => {
                Code::Unreachable
            }
            _ => Code::Refused,
        };
        let line = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        Self::new(code, line)
    }
}

/// Whether the connection broke, as opposed to an answer of the engine.
pub(crate) fn is_lost(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_some() || is_of_proxy(status)
}

/// Whether a proxy answered with a page of its own, because it reaches no engine.
fn is_of_proxy(status: &tonic::Status) -> bool {
    ["502", "503", "504"].iter().any(|code| status.message().contains(&format!("response with status: {code}")))
}

/// The innermost reason of an error.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<std::io::Error> for CliError {
    /// For writes to stdout; other errors of this kind name the file or folder that they are about.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::unread(),
            _ => Self::failed(format!("cannot write the answer: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_engine_has_its_exit_code() {
        use tonic::Code as Grpc;
        let cases = [
            (Grpc::InvalidArgument, 2),
            (Grpc::NotFound, 3),
            (Grpc::Unavailable, 4),
            (Grpc::DeadlineExceeded, 4),
            (Grpc::Internal, 4),
            (Grpc::FailedPrecondition, 5),
            (Grpc::Aborted, 5),
            (Grpc::AlreadyExists, 5),
            (Grpc::ResourceExhausted, 5),
            (Grpc::PermissionDenied, 5),
            (Grpc::Unauthenticated, 5),
        ];
        for (code, exit) in cases {
            let stop = CliError::from_status(&tonic::Status::new(code, "why"), "http://x");
            assert_eq!((stop.code.map(|c| c as i32), stop.line.as_str()), (Some(exit), "why"), "{code:?}");
        }
    }

    #[test]
    fn a_page_of_a_proxy_is_no_answer_of_the_engine() {
        let page = "protocol error: received message with invalid compression flag: 60 (valid flags are 0 and 1) while \
                    receiving response with status: 502 Bad Gateway";
        let stop = CliError::from_status(&tonic::Status::internal(page), "https://x");
        assert_eq!(stop.line, "lost the engine at https://x (a proxy answers in its place); is it still running?");
        assert!(is_lost(&tonic::Status::internal(page)) && !is_lost(&tonic::Status::internal("why")));
    }

    #[test]
    fn a_broken_connection_is_told_from_an_answer() {
        let mut status = tonic::Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(std::io::Error::other("connection reset")));
        let stop = CliError::from_status(&status, "http://127.0.0.1:9");
        assert_eq!(stop.code, Some(Code::Unreachable));
        assert!(stop.line.contains("http://127.0.0.1:9") && stop.line.contains("connection reset"), "{stop}");
    }
}
