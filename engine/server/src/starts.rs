//! Starts of many executions in one request, processed in groups as they arrive.

use cerebelum_worker::ApiError;
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::Status;

use crate::access::Access;
use crate::convert::refusal;
use crate::proto;
use crate::proto::start_many_response::Result as StartResult;
use crate::service::Service;

/// The number of executions that one call may start.
const STARTS_PER_CALL_MAX: usize = 100_000;
/// The bytes of the answers to one call, which are kept until all of them are there.
const RESULTS_BYTES_MAX: usize = 64 << 20;
/// The number of starts that are passed to the engine together.
const STARTS_TOGETHER_MAX: usize = 1_000;
/// The bytes that these may have before they are passed on.
const STARTS_TOGETHER_BYTES_MAX: usize = 4 << 20;

/// A start as it was sent, or why it cannot be one.
pub(crate) type Wish = Result<proto::StartRequest, ApiError>;

impl Service {
    /// Starts executions, and says of each what became of it, in their order.
    pub(crate) async fn start_all(
        &self,
        access: &Access,
        mut wishes: impl Stream<Item = Result<Wish, Status>> + Unpin,
    ) -> Result<Vec<StartResult>, Status> {
        let (mut group, mut results) = (Vec::new(), Vec::new());
        let (mut bytes, mut result_bytes) = (0, 0);
        while let Some(wish) = wishes.next().await.transpose()? {
            if results.len() + group.len() == STARTS_PER_CALL_MAX || result_bytes > RESULTS_BYTES_MAX {
                self.start_together(access, group).await?;
                let mib = RESULTS_BYTES_MAX >> 20;
                return Err(Status::failed_precondition(format!(
                    "one call may start at most {STARTS_PER_CALL_MAX} executions, and its answers may have at most {mib} MiB; those were started, send the rest in another call"
                )));
            }
            bytes += wish.as_ref().map_or(0, Message::encoded_len);
            group.push(wish);
            if group.len() == STARTS_TOGETHER_MAX || bytes > STARTS_TOGETHER_BYTES_MAX {
                bytes = 0;
                let mut told = self.start_together(access, std::mem::take(&mut group)).await?;
                result_bytes += told.iter().map(Message::encoded_len).sum::<usize>();
                results.append(&mut told);
            }
        }
        results.append(&mut self.start_together(access, group).await?);
        Ok(results)
    }

    async fn start_together(&self, access: &Access, group: Vec<Wish>) -> Result<Vec<StartResult>, Status> {
        let engine = self.engine.of(&access.still(&self.engine).await?);
        let (mut wishes, mut refusals) = (Vec::new(), Vec::new());
        for request in group {
            match request.and_then(TryInto::try_into) {
                Ok(wish) => {
                    wishes.push(wish);
                    refusals.push(None);
                }
                Err(refused) => refusals.push(Some(refused)),
            }
        }
        let mut started = engine.start_many(wishes).await.into_iter();
        let lost = || Err(ApiError::Unavailable("the engine did not say what became of this start; ask again".into()));
        let results = refusals
            .into_iter()
            .map(|refusal| refusal.map_or_else(|| started.next().unwrap_or_else(lost), Err))
            .map(start_result);
        Ok(results.collect())
    }
}

fn start_result(result: Result<cerebelum_worker::Summary, ApiError>) -> StartResult {
    use proto::start_many_response::result::Result::{Refused, Started};
    let result = match result {
        Ok(summary) => Started(summary.into()),
        Err(refused) => {
            let status = refusal(refused);
            Refused(proto::Refused { code: status.code().into(), message: status.message().to_owned() })
        }
    };
    StartResult { result: Some(result) }
}
