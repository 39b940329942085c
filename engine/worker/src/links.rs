//! Links with which people answer questions without a token of their own: the secret in the link is the credential.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cerebelum_history::{APPROVER_BYTES_MAX, Digest, ExecutionId, Json, Timestamp};
use cerebelum_store::{Allowed, ApprovalLink, ApprovalState, FoundLink, LinkOutcome, NewLink};

use crate::api::{ApiError, ApprovalView, Decision};
use crate::convert;
use crate::decide::{Author, approvers, asked_again, no_question, too_late};
use crate::engine::Engine;
use crate::identity::{Action, Caller, Role};
use crate::tenancy::is_printable;

/// Where the page of a link is: its token follows.
pub const LINK_PATH: &str = "/a/";
/// The bytes of a link's token.
const LINK_BYTES: usize = 32;
/// How many days a link can be used, unless the request says otherwise.
const LINK_DAYS_DEFAULT: u64 = 3;
/// How many days a link can be used at most.
const LINK_DAYS_MAX: u64 = 30;
/// The most open links of a question.
const LINKS_MAX: u32 = 32;
const DAY_MS: u64 = 24 * 3_600_000;

/// A request for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRequest {
    /// The question, or an execution that has exactly one open.
    pub id: String,
    /// The name of the person who answers with the link. The answer carries this name.
    pub name: String,
    /// The decisions that it allows, `approve` or `reject`; both if there are none.
    pub only: Vec<String>,
    /// Milliseconds until it is refused; three days if there are none.
    pub expires_in_ms: Option<u64>,
}

/// A link without its secret, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLinkView {
    /// Its id, which is of no use to open it.
    pub id: String,
    /// The question that it answers.
    pub approval: String,
    /// The name of the person who answers with it.
    pub name: String,
    /// The decisions that it allows: `approve`, `reject`.
    pub decisions: Vec<&'static str>,
    /// The name of the caller who created it; none if the engine had no tokens.
    pub created_by: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The time from which it is refused.
    pub expires_at: Timestamp,
    /// When the question was answered with it.
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A link that was created. The token is shown here and nowhere else.
#[derive(Debug, Clone)]
pub struct CreatedLink {
    /// The link without its secret.
    pub view: ApprovalLinkView,
    /// The token, 32 random bytes in base64url. Behind [`LINK_PATH`] it is the path of the link.
    pub token: String,
}

/// What a link is good for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It answers the question.
    Open,
    /// The question was answered with it.
    Used,
    /// Its time is over.
    Expired,
    /// The question has ended without it, in this state: `approved`, `rejected`, `timed-out`, `withdrawn`.
    Decided(&'static str),
}

/// A link as the person sees it who opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkView {
    /// The question. Of a link that is not open, its data and schema are left out.
    pub question: ApprovalView,
    /// The name of the person for whom the link was made.
    pub name: String,
    /// The decisions that it allows: `approve`, `reject`.
    pub decisions: Vec<&'static str>,
    /// The time from which it is refused.
    pub expires_at: Timestamp,
    /// What it is good for now.
    pub state: LinkState,
}

impl Engine {
    /// Creates a link with which one person answers one question, once.
    ///
    /// # Errors
    /// When the caller may not answer questions, the request is not valid, there is no such open question, its approvers
    /// are others than the person and the caller is not an admin, it has too many open links, or the database does not answer.
    pub async fn create_approval_link(&self, caller: &Caller, request: LinkRequest) -> Result<CreatedLink, ApiError> {
        caller.check(Action::Decide)?;
        let (allowed, lives_ms) = check(&request)?;
        let engine = self.of(caller);
        let row = engine.question(&request.id).await?;
        let approvers = approvers(&row.id, convert::request(&row)?.schema.as_ref())?;
        // The maker of a link could use it, so the maker is an approver or an admin.
        if !approvers.is_empty() && caller.role != Role::Admin {
            let is_approver = caller.name.as_deref().is_some_and(|name| approvers.allow(name, caller.role.as_str()));
            if !is_approver || !approvers.has_name(&request.name) {
                return Err(ApiError::Forbidden(format!(
                    "this question is for {approvers}: one of these may make a link for one of these names; use a token with the role admin for other links"
                )));
            }
        }
        let secret: [u8; LINK_BYTES] = rand::random();
        let link = NewLink {
            tenant: engine.tenant,
            approval: row.id.clone(),
            asked_at: row.requested_at,
            digest: Digest::of(&secret),
            name: request.name,
            allowed,
            created_by: caller.name.clone(),
            lives_ms,
        };
        let outcome = format!("{} for {}", decisions(allowed).join(" or "), link.name);
        let act = engine.act("CreateApprovalLink", &row.id, outcome);
        let _turn = engine.node.turns.writes.next(engine.tenant).await;
        match engine.node.store.create_link(link, LINKS_MAX, act).await? {
            LinkOutcome::Created(link) => Ok(CreatedLink { view: view(link), token: URL_SAFE_NO_PAD.encode(secret) }),
            LinkOutcome::TooMany => Err(ApiError::Conflict(format!(
                "links-max: approval `{0}` has {LINKS_MAX} open links: revoke some that are not needed, see `cerebelum approvals links {0}`",
                row.id
            ))),
            LinkOutcome::TooLate(state) => Err(too_late(&row, state)),
            LinkOutcome::AskedAgain => Err(asked_again(&row.id)),
            LinkOutcome::Unknown => Err(no_question(&row.id)),
        }
    }

    /// The links of a question, the newest first, without their secrets.
    ///
    /// # Errors
    /// When the caller may not answer questions, there is no such question, or the database does not answer.
    pub async fn approval_links(&self, caller: &Caller, id: &str) -> Result<Vec<ApprovalLinkView>, ApiError> {
        caller.check(Action::Decide)?;
        let row = self.of(caller).question(id).await?;
        let links = self.node.store.links(caller.tenant, &row.id).await?;
        Ok(links.into_iter().map(view).collect())
    }

    /// Revokes a link of a question by the id that lists show.
    ///
    /// # Errors
    /// When the caller may not answer questions, there is no such question or no such link that could still be used, or
    /// the database does not answer.
    pub async fn revoke_approval_link(&self, caller: &Caller, id: &str, link: &str) -> Result<(), ApiError> {
        caller.check(Action::Decide)?;
        let engine = self.of(caller);
        let row = engine.question(id).await?;
        let none = || ApiError::NotFound(format!("approval `{}` has no link with this id that is open", row.id));
        if !link.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(none());
        }
        let act = engine.act("RevokeApprovalLink", &row.id, link);
        let _turn = engine.node.turns.writes.next(engine.tenant).await;
        let revoked = engine.node.store.revoke_link((engine.tenant, &row.id), link, act).await?;
        revoked.then_some(()).ok_or_else(none)
    }

    /// What a link shows. There is no caller: the token of the link is the credential. Nothing changes.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], with the same text whatever the reason: the token is not one, the link was revoked, its
    /// question or tenant is gone, or its tenant is suspended. [`ApiError::Quota`] when too many links are looked up,
    /// [`ApiError::Unavailable`] when the database does not answer.
    pub async fn approval_by_link(&self, token: &str) -> Result<LinkView, ApiError> {
        let (_, found) = self.found_link(token).await?;
        let state = state(&found);
        let FoundLink { link, question, .. } = found;
        let mut question = convert::approval(question)?;
        if state != LinkState::Open {
            (question.data, question.schema) = (Json::null(), None);
        }
        let decisions = decisions(link.allowed);
        Ok(LinkView { question, name: link.name, decisions, expires_at: link.expires_at, state })
    }

    /// Answers the question of a link, in the name of the person for whom it was made. The link is used up in the same
    /// transaction. `address` is the address of the client, for the audit.
    ///
    /// # Errors
    /// As [`Engine::approval_by_link`]. [`ApiError::Conflict`] when the link was used or has expired, or the question has
    /// ended; [`ApiError::Forbidden`] when the link does not allow this decision; [`ApiError::Invalid`] when the answer
    /// does not fit what was asked for.
    pub async fn decide_by_link(
        &self,
        token: &str,
        decision: Decision,
        address: Option<IpAddr>,
    ) -> Result<ExecutionId, ApiError> {
        let (digest, found) = self.found_link(token).await?;
        let state = state(&found);
        let FoundLink { tenant, link, question, .. } = found;
        match state {
            LinkState::Open => {}
            LinkState::Used => return Err(ApiError::Conflict("this link was used already".to_owned())),
            LinkState::Expired => {
                return Err(ApiError::Conflict("this link has expired: ask for a new one".to_owned()));
            }
            LinkState::Decided(_) => return Err(too_late(&question, question.state)),
        }
        let wanted = if matches!(decision, Decision::Approve { .. }) { "approve" } else { "reject" };
        if !decisions(link.allowed).contains(&wanted) {
            return Err(ApiError::Forbidden(format!("this link does not allow to {wanted}")));
        }
        let note = link.created_by.as_ref().map_or_else(String::new, |creator| format!(", by a link of {creator}"));
        let caller = Caller {
            tenant,
            tenant_name: String::new(),
            role: Role::Approver,
            name: Some(link.name.clone()),
            token: Some(format!("link-{}", link.id())),
            address,
            span: None,
        };
        let author = Author { by: &link.name, note, link: Some(digest) };
        self.of(&caller).answer(question, author, decision).await
    }

    /// The link with this token, found by its digest.
    async fn found_link(&self, token: &str) -> Result<(Digest, FoundLink), ApiError> {
        let unknown = || ApiError::NotFound("this link is not valid: ask for a new one".to_owned());
        let secret = URL_SAFE_NO_PAD.decode(token).ok().filter(|secret| secret.len() == LINK_BYTES);
        let digest = Digest::of(&secret.ok_or_else(unknown)?);
        // Guesses wait in line for each other. A person waits behind them for a moment, and is not refused.
        let _one = self.identities.link_lookups.acquire().await;
        let found = self.node.store.find_link(&digest).await?.ok_or_else(unknown)?;
        Ok((digest, found))
    }
}

/// The decisions and the time that a request asks for.
fn check(request: &LinkRequest) -> Result<(Allowed, u64), ApiError> {
    let LinkRequest { name, only, expires_in_ms, .. } = request;
    if !is_printable(name) || name.len() > APPROVER_BYTES_MAX || name.starts_with("role:") {
        return Err(ApiError::Invalid(format!(
            "a link is for one person: 1 to {APPROVER_BYTES_MAX} bytes of a name that can be seen"
        )));
    }
    let wanted = |word| only.iter().any(|one| one == word);
    let allowed = match (wanted("approve"), wanted("reject")) {
        _ if only.iter().any(|word| word != "approve" && word != "reject") => {
            return Err(ApiError::Invalid("a link allows the decisions `approve` and `reject`".to_owned()));
        }
        (true, false) => Allowed::Approve,
        (false, true) => Allowed::Reject,
        _ => Allowed::Both,
    };
    let lives_ms = expires_in_ms.unwrap_or(LINK_DAYS_DEFAULT * DAY_MS);
    if lives_ms == 0 || lives_ms > LINK_DAYS_MAX * DAY_MS {
        return Err(ApiError::Invalid(format!("a link can be used for up to {LINK_DAYS_MAX} days")));
    }
    Ok((allowed, lives_ms))
}

fn state(found: &FoundLink) -> LinkState {
    match found.question.state {
        _ if found.link.used_at.is_some() => LinkState::Used,
        ApprovalState::Open if found.is_expired => LinkState::Expired,
        ApprovalState::Open => LinkState::Open,
        ended => LinkState::Decided(convert::approval_state(ended)),
    }
}

fn decisions(allowed: Allowed) -> Vec<&'static str> {
    match allowed {
        Allowed::Approve => vec!["approve"],
        Allowed::Reject => vec!["reject"],
        Allowed::Both => vec!["approve", "reject"],
    }
}

fn view(link: ApprovalLink) -> ApprovalLinkView {
    ApprovalLinkView {
        id: link.id().to_owned(),
        approval: link.approval,
        name: link.name,
        decisions: decisions(link.allowed),
        created_by: link.created_by,
        created_at: link.created_at,
        expires_at: link.expires_at,
        used_at: link.used_at,
        revoked_at: link.revoked_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, only: &[&str], expires_in_ms: Option<u64>) -> LinkRequest {
        let only = only.iter().map(|word| (*word).to_owned()).collect();
        LinkRequest { id: "q".to_owned(), name: name.to_owned(), only, expires_in_ms }
    }

    #[test]
    fn a_link_is_for_one_name_some_decisions_and_a_time() {
        assert_eq!(check(&wish("ada", &[], None)).unwrap(), (Allowed::Both, 3 * DAY_MS));
        assert_eq!(check(&wish("ada", &["reject"], Some(1))).unwrap(), (Allowed::Reject, 1));
        assert_eq!(check(&wish("ada", &["approve"], Some(30 * DAY_MS))).unwrap(), (Allowed::Approve, 30 * DAY_MS));
        assert_eq!(check(&wish("ada", &["reject", "approve"], None)).unwrap().0, Allowed::Both);
        let long = "a".repeat(APPROVER_BYTES_MAX + 1);
        for name in ["", " ", "a\nb", "role:admin", "a\u{202e}b", &long] {
            assert!(check(&wish(name, &[], None)).unwrap_err().to_string().contains("one person"), "{name:?}");
        }
        assert!(check(&wish("ada", &["delete"], None)).is_err());
        for expires in [0, 30 * DAY_MS + 1] {
            assert!(check(&wish("ada", &[], Some(expires))).unwrap_err().to_string().contains("30 days"));
        }
    }

    #[test]
    fn the_roles_of_approvers_are_all_roles() {
        assert_eq!(Role::ALL.map(Role::as_str), cerebelum_history::APPROVER_ROLES);
    }
}
