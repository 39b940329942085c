//! The outcomes of a node's last batches, kept in its locked row. One look-up there settles an unknown COMMIT (L11).

use std::collections::VecDeque;

use crate::model::{AppendError, InboxCursor};

/// The number of appends that are kept. A node has only one append under way, or a few.
const KEPT_MAX: usize = 16;

/// The answers to the batches of one append, in order.
pub(crate) type Answers = Vec<Result<InboxCursor, AppendError>>;

/// The last appends of a node by id, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchReceipts {
    kept: VecDeque<(u64, Answers)>,
}

impl BatchReceipts {
    pub(crate) fn of(&self, id: u64) -> Option<&[Result<InboxCursor, AppendError>]> {
        self.kept.iter().find(|(kept, _)| *kept == id).map(|(_, answers)| answers.as_slice())
    }

    pub(crate) fn add(&mut self, id: u64, answers: &[Result<InboxCursor, AppendError>]) {
        self.kept.push_back((id, answers.to_vec()));
        while self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    /// The receipts as text: `id=count` if all batches were accepted, otherwise `id:` and a letter for each batch.
    pub(crate) fn encode(&self) -> String {
        let words = self.kept.iter().map(|(id, answers)| match answers.iter().all(Result::is_ok) {
            true => format!("{id:x}={}", answers.len()),
            false => format!("{id:x}:{}", answers.iter().copied().map(letter).collect::<String>()),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Parses the text of [`BatchReceipts::encode`]. Unknown words are left out.
    pub(crate) fn decode(text: &str) -> Self {
        Self { kept: text.split_whitespace().filter_map(word).collect() }
    }
}

fn word(word: &str) -> Option<(u64, Answers)> {
    let (id, answers) = match word.split_once('=') {
        Some((id, count)) => (id, vec![Ok(InboxCursor::UNKNOWN); count.parse().ok()?]),
        None => {
            let (id, letters) = word.split_once(':')?;
            (id, letters.chars().map(answer).collect::<Option<_>>()?)
        }
    };
    Some((u64::from_str_radix(id, 16).ok()?, answers))
}

const fn letter(answer: Result<InboxCursor, AppendError>) -> char {
    match answer {
        Ok(_) => '.',
        Err(AppendError::ClaimLost) => 'c',
        Err(AppendError::Moved) => 'm',
        Err(AppendError::Exists) => 'x',
        Err(AppendError::AlreadyAnswered) => 'a',
        Err(AppendError::TooEarly) => 'e',
        Err(AppendError::Forbidden) => 'f',
    }
}

const fn answer(letter: char) -> Option<Result<InboxCursor, AppendError>> {
    match letter {
        '.' => Some(Ok(InboxCursor::UNKNOWN)),
        'c' => Some(Err(AppendError::ClaimLost)),
        'm' => Some(Err(AppendError::Moved)),
        'x' => Some(Err(AppendError::Exists)),
        'a' => Some(Err(AppendError::AlreadyAnswered)),
        'e' => Some(Err(AppendError::TooEarly)),
        'f' => Some(Err(AppendError::Forbidden)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcomes_survive_their_text() {
        let mut outcomes = BatchReceipts::default();
        for id in 0..40 {
            outcomes.add(u64::MAX - id, &[Ok(InboxCursor::UNKNOWN), Ok(InboxCursor::UNKNOWN)]);
        }
        let mixed = [
            Ok(InboxCursor::UNKNOWN),
            Err(AppendError::ClaimLost),
            Err(AppendError::Moved),
            Err(AppendError::AlreadyAnswered),
        ];
        outcomes.add(7, &mixed);
        outcomes.add(8, &[Err(AppendError::TooEarly), Err(AppendError::Forbidden), Err(AppendError::Exists)]);
        let read = BatchReceipts::decode(&outcomes.encode());
        assert_eq!(read, outcomes);
        assert_eq!(read.of(7), Some(mixed.as_slice()));
        assert_eq!(read.of(u64::MAX), None);
    }
}
