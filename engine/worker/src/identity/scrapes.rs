//! The callers that may read the metrics while the database does not answer: otherwise the trouble could not be seen.

use std::time::Duration;

use super::{Caller, Credential, is_of};
use crate::api::ApiError;
use crate::engine::Engine;

/// For how long a caller is still let in to read the metrics while the database does not answer.
const METRICS_TRUST_MS: u64 = 3_600_000;
/// How long reading the metrics waits for the database before that.
const METRICS_WAIT_MAX: Duration = Duration::from_secs(1);

impl Engine {
    /// Like [`Engine::authenticate`], to read the metrics: while the database does not answer, a caller that was let in
    /// during the last hour still is.
    ///
    /// # Errors
    /// As [`Engine::authenticate`].
    pub async fn authenticate_for_metrics(&self, token: Option<&str>) -> Result<Caller, ApiError> {
        let Some(earlier) = self.let_in_lately(token) else { return self.authenticate(token).await };
        match self.node.runtime.within(METRICS_WAIT_MAX, self.authenticate(token)).await {
            Some(Err(ApiError::Unavailable(_))) | None => Ok(earlier),
            Some(answer) => answer,
        }
    }

    /// The caller with this token, if the token was valid when it was last looked up, within the last hour.
    fn let_in_lately(&self, token: Option<&str>) -> Option<Caller> {
        let (now, now_ms) = (self.node.clock.now(), self.node.runtime.boot_ms());
        let is_recent = |read_ms: u64| now_ms < read_ms + METRICS_TRUST_MS;
        let noted = *self.identities.has_tokens.lock();
        if let (None, false, Some((false, read_ms))) = (token, self.node.config.closed, noted) {
            return is_recent(read_ms).then(Caller::of_open_engine);
        }
        let credential = Credential::parse(token?)?;
        let known = self.identities.known.lock();
        let known = known.get(&credential.id).filter(|known| known.read_ms.is_some_and(is_recent))?;
        let is_valid = is_of(&credential, known) && known.expires_at.is_none_or(|at| now < at);
        is_valid.then(|| known.caller.clone())
    }
}
