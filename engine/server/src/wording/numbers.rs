//! Numbers of executions, as an overview shows them.

use cerebelum_history::Status;

use crate::proto;

/// The statuses that an overview counts. To count the completed ones, all executions would have to be examined.
pub const COUNTED: [Status; 6] =
    [Status::Running, Status::Sleeping, Status::Waiting, Status::Paused, Status::Parked, Status::Failed];
/// Where an overview stops counting.
const COUNTED_MAX: u64 = 10_000;

/// The request for the number that an overview shows.
#[must_use]
pub fn counting(status: Status) -> proto::CountRequest {
    let filter = proto::ExecutionFilter { status: Some(status.word().to_owned()), ..Default::default() };
    proto::CountRequest { filter: Some(filter), up_to: Some(COUNTED_MAX) }
}

/// A number of executions.
#[must_use]
pub fn counted(count: &proto::CountResponse) -> String {
    match (count.is_exact, count.executions) {
        (true, executions) => executions.to_string(),
        (false, 0) => "not counted".to_owned(),
        (false, executions) => format!("more than {executions}"),
    }
}
