//! How many bytes an execution holds in memory. The bytes are counted where they come and go, never by walking over
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Json;
use crate::event::EventData;
use crate::limits::FLAT_BYTES;

/// The share that one owner has added to a common sum. It is subtracted when the owner is dropped.
#[derive(Debug, Default)]
pub(crate) struct Weight {
    sum: Arc<AtomicU64>,
    own: u64,
}

impl Weight {
    /// An empty share of this sum.
    pub(crate) fn of(sum: &Arc<AtomicU64>) -> Self {
        Self { sum: Arc::clone(sum), own: 0 }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.own += bytes;
        self.sum.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&mut self, bytes: u64) {
        let bytes = bytes.min(self.own);
        self.own -= bytes;
        self.sum.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Moves the share to another sum.
    pub(crate) fn move_to(&mut self, sum: &Arc<AtomicU64>) {
        let mut moved = Self::of(sum);
        moved.add(self.own);
        *self = moved;
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.sub(self.own);
    }
}

impl EventData {
    /// About how many bytes the event takes: its values and texts, and a flat amount for the rest.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let texts = match self {
            Self::ExecutionStarted { input, .. } | Self::ExecutionContinued { input } => input.as_str().len(),
            Self::ExecutionCompleted { output } => output.as_str().len(),
            Self::StepStarted { call, .. } | Self::PollStarted { check: call, .. } => call.input.as_str().len(),
            Self::ChildStarted { call, .. } => call.input.as_str().len(),
            Self::ApprovalRequested { request, .. } => request.weight(),
            Self::ApprovalReceived { approval, .. } => {
                approval.data.as_str().len() + approval.comment.as_ref().map_or(0, String::len)
            }
            Self::ApprovalRejected { reason, .. } => reason.len(),
            Self::AttributeSet { name, value, .. } => name.len() + value.as_str().len(),
            Self::FetchStarted { url, .. } => url.len(),
            Self::ExecutionFailed { failure }
            | Self::ExecutionCancelled { failure }
            | Self::StepRetried { failure, .. }
            | Self::StepFailed { failure, .. }
            | Self::PollFailed { failure, .. }
            | Self::FetchFailed { failure, .. }
            | Self::ChildFailed { failure, .. }
            | Self::CallRefused { failure, .. } => failure.weight(),
            _ => 0,
        };
        texts as u64 + self.value_weight() + FLAT_BYTES
    }

    /// Bytes of the value that [`EventData::without_values`] drops.
    pub(crate) fn value_weight(&self) -> u64 {
        let value = match self {
            Self::StepCompleted { output, .. } | Self::ChildCompleted { output, .. } => length(output),
            Self::PollCompleted { value, .. } | Self::SignalReceived { data: value, .. } => length(value),
            Self::FetchCompleted { response: Some(response), .. } => response.weight(),
            _ => 0,
        };
        value as u64
    }
}

fn length(value: &Option<Json>) -> usize {
    value.as_ref().map_or(0, |value| value.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_weighs_nothing() {
        let (here, there) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicU64::new(0)));
        let mut weight = Weight::of(&here);
        weight.add(10);
        weight.sub(3);
        assert_eq!(here.load(Ordering::Relaxed), 12);
        weight.move_to(&there);
        assert_eq!((here.load(Ordering::Relaxed), there.load(Ordering::Relaxed)), (5, 7));
        drop(weight);
        assert_eq!(there.load(Ordering::Relaxed), 0);
    }
}
