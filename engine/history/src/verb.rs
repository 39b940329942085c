//! What clients may ask of an execution.

use crate::limits::{INBOX_BYTES_MAX, INBOX_MESSAGES_MAX};
use crate::{ExecutionId, Message, ReopenMode, Reopening, Status};

/// A client's operation on an execution that exists. A resume is [`Resumption`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Send a signal.
    Signal,
    /// Ask the execution to end.
    Cancel,
    /// End it at once.
    Terminate,
    /// Let nothing new begin.
    Pause,
    /// Delete it.
    Delete,
}

impl Verb {
    /// Whether a client may ask this of an execution with this status.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with the execution.
    pub fn on(self, status: Status) -> Result<(), String> {
        let refusal = match self {
            Self::Delete if status.is_ended() => return Ok(()),
            Self::Delete => return Err("has not ended: cancel or terminate it first".to_owned()),
            // Its code cannot run, and so cannot clean up.
            Self::Cancel if status == Status::Parked => {
                return Err("is parked: resume it first, or terminate it".to_owned());
            }
            _ if !status.is_ended() => return Ok(()),
            Self::Signal => "takes no signals",
            Self::Cancel => "cannot be cancelled",
            Self::Terminate => "cannot be terminated",
            Self::Pause => "cannot be paused",
        };
        Err(format!("is {status} and {refusal}"))
    }
}

/// What makes an execution go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// It is no longer parked.
    Unpark,
    /// It receives [`Message::Resume`].
    Unpause,
    /// The call that failed it is opened again, see [`Reopening::request`].
    Reopen,
}

impl Resumption {
    /// What makes an execution with this status go on.
    ///
    /// # Errors
    /// Why nothing does, as the end of a sentence that begins with the execution.
    pub fn of(status: Status) -> Result<Self, String> {
        match status {
            Status::Parked => Ok(Self::Unpark),
            Status::Paused => Ok(Self::Unpause),
            Status::Failed => Ok(Self::Reopen),
            Status::Completed | Status::Cancelled => Err(format!("is {status} and stays so: start another one")),
            Status::Running | Status::Sleeping | Status::WaitingForApproval | Status::Waiting => {
                Err(format!("is {status}: there is nothing to resume"))
            }
        }
    }
}

impl Reopening {
    /// The message that opens the call again.
    ///
    /// # Errors
    /// Why that is of no use or not safe, as the end of a sentence that begins with the execution.
    pub fn request(&self, id: &ExecutionId, mode: ReopenMode) -> Result<Message, String> {
        match (self, mode) {
            (Self::Nothing, _) => Err("failed in its own code, no call did: it would fail again".to_owned()),
            (Self::Unsafe { failed, later, .. }, ReopenMode::Checked) => Err(format!(
                "went on to {later} after {failed} had failed or was given up, and resuming would not undo that: start a new execution, \
                 or insist with `cerebelum resume {id} --force`"
            )),
            (Self::Safe(_), ReopenMode::Checked) => Ok(Message::Reopen),
            (Self::Safe(_) | Self::Unsafe { .. }, ReopenMode::Forced) => Ok(Message::ReopenForced),
        }
    }
}

/// Checks that an inbox with this many unread messages of this many bytes takes another one. Messages that stop an
/// execution are always taken.
///
/// # Errors
/// Why not, as the end of a sentence that begins with the execution.
pub fn check_inbox(messages: u64, bytes: u64) -> Result<(), String> {
    if messages < INBOX_MESSAGES_MAX && bytes < INBOX_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "has {messages} unread messages of {bytes} bytes where {INBOX_MESSAGES_MAX} and {INBOX_BYTES_MAX} are the limit: wait until it has read some"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_only_deleted_and_what_is_parked_cannot_clean_up() {
        for verb in [Verb::Signal, Verb::Cancel, Verb::Terminate, Verb::Pause, Verb::Delete] {
            for status in Status::ALL {
                let may = match (verb, status) {
                    (Verb::Cancel, Status::Parked) => false,
                    (verb, status) => status.is_ended() == (verb == Verb::Delete),
                };
                assert_eq!(verb.on(status).is_ok(), may, "{verb:?} when {status}");
            }
        }
        assert_eq!(Verb::Signal.on(Status::Failed), Err("is failed and takes no signals".to_owned()));
    }

    #[test]
    fn only_what_is_parked_paused_or_failed_is_resumed() {
        let found = Status::ALL.map(|status| Resumption::of(status).ok());
        let resumed: Vec<(Status, Resumption)> =
            std::iter::zip(Status::ALL, found).filter_map(|(status, found)| Some((status, found?))).collect();
        let expected = [
            (Status::Paused, Resumption::Unpause),
            (Status::Parked, Resumption::Unpark),
            (Status::Failed, Resumption::Reopen),
        ];
        assert_eq!(resumed, expected);
    }

    #[test]
    fn every_status_has_a_word_of_its_own_that_is_read_back() {
        for status in Status::ALL {
            assert_eq!(status.word().parse(), Ok(status));
        }
        assert_eq!("bogus".parse::<Status>().unwrap_err().to_string().matches(',').count(), 8);
    }
}
