//! Receives the bytes of a component.

use std::time::Duration;

use axum::body::Bytes;
use cerebelum_worker::COMPONENT_BYTES_MAX;
use futures::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::access::Access;
use crate::convert::refusal;
use crate::kinds::too_large;
use crate::proto;
use crate::service::Service;

/// How long the bytes of a component may take to arrive. Meanwhile they take one of the tenant's turns.
const UPLOAD_MAX: Duration = Duration::from_secs(600);

impl Service {
    /// Receives a whole component, and keeps it under the name, or that of the file.
    pub(crate) async fn upload_pieces(
        &self,
        access: &Access,
        (name, file_name): (Option<String>, &str),
        pieces: impl Stream<Item = Result<Bytes, Status>> + Unpin,
    ) -> Result<proto::Component, Status> {
        let _turn = self.engine.of(&access.caller).upload_turn().await;
        let received = tokio::time::timeout(UPLOAD_MAX, receive(pieces)).await;
        let bytes = received.map_err(|_| {
            Status::deadline_exceeded(format!("the upload took longer than {} s", UPLOAD_MAX.as_secs()))
        })??;
        let engine = self.engine.of(&access.still(&self.engine).await?);
        Ok(engine.upload(name, file_name, bytes).await.map_err(refusal)?.into())
    }
}

async fn receive(mut pieces: impl Stream<Item = Result<Bytes, Status>> + Unpin) -> Result<Vec<u8>, Status> {
    // Growing in steps would hold two copies at a time. What is reserved and not written takes no memory.
    let mut all = Vec::with_capacity(COMPONENT_BYTES_MAX);
    while let Some(piece) = pieces.next().await.transpose()? {
        if all.len() + piece.len() > COMPONENT_BYTES_MAX {
            let max = COMPONENT_BYTES_MAX >> 20;
            return Err(too_large(Code::FailedPrecondition, format!("a component may have at most {max} MiB")));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
