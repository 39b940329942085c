//! Bulk jobs between the wire and the engine.

use cerebelum_worker::{ApiError, BulkJobView, BulkRefusal, BulkRequest, Operation};

use crate::convert::{moment, or_default};
use crate::proto;

impl TryFrom<proto::StartBulkRequest> for BulkRequest {
    type Error = ApiError;

    fn try_from(from: proto::StartBulkRequest) -> Result<Self, ApiError> {
        let refused = |why: String| Err(ApiError::Invalid(why));
        let operation = match (from.operation.as_str(), from.signal) {
            ("signal", Some(proto::BulkSignal { name, data })) => {
                Operation::Signal { name, data: or_default(data, "null") }
            }
            ("signal", None) => return refused("the operation `signal` needs a signal".to_owned()),
            (other, Some(_)) => return refused(format!("the operation `{}` takes no signal", other.escape_debug())),
            ("resume", None) => Operation::Resume { force: from.force },
            (other, None) if from.force => {
                return refused(format!("the operation `{}` cannot be forced", other.escape_debug()));
            }
            ("cancel", None) => Operation::Cancel,
            ("terminate", None) => Operation::Terminate,
            ("pause", None) => Operation::Pause,
            ("delete", None) => Operation::Delete,
            (other, None) => {
                let known = "cancel, terminate, pause, resume, signal or delete";
                return refused(format!("there is no operation `{}`: say {known}", other.escape_debug()));
            }
        };
        let filter = from.filter.unwrap_or_default().try_into()?;
        Ok(Self { id: from.bulk_id, operation, filter, at_most: from.at_most })
    }
}

impl From<BulkJobView> for proto::BulkJob {
    fn from(from: BulkJobView) -> Self {
        let operation = from.operation.word().to_owned();
        let signal = match from.operation {
            Operation::Signal { name, data } => Some(proto::BulkSignal { name, data }),
            _ => None,
        };
        Self {
            bulk_id: from.id,
            operation,
            filter: Some(from.filter.into()),
            signal,
            state: from.state.word().to_owned(),
            matched: from.matched,
            at_most: from.at_most,
            done: from.done,
            refused: from.refused,
            created_by: from.created_by,
            created_at: Some(moment(from.created_at)),
            ended_at: from.ended_at.map(moment),
        }
    }
}

impl From<BulkRefusal> for proto::BulkRefusal {
    fn from(from: BulkRefusal) -> Self {
        Self { execution_id: from.execution.to_string(), reason: from.reason }
    }
}
