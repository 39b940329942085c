//! Links with which people answer questions.

use cerebelum_history::Digest;
use cerebelum_store::{
    Act, ApprovalLink, ApprovalState, FoundLink, LinkOutcome, LinkStore, NewLink, StoreFuture, TenantId,
};

use crate::questions::standing;
use crate::{MemoryStore, Tables};

impl Tables {
    fn create_link(&mut self, new: NewLink, links_max: u32) -> LinkOutcome {
        let (now, max) = (self.now, links_max as usize);
        let Some(question) = self.questions.get(&(new.tenant, new.approval.clone())) else {
            return LinkOutcome::Unknown;
        };
        match standing(question, now) {
            ApprovalState::Open => {}
            ended => return LinkOutcome::TooLate(ended),
        }
        if question.requested_at != new.asked_at {
            return LinkOutcome::AskedAgain;
        }
        let is_open =
            |link: &ApprovalLink| link.used_at.is_none() && link.revoked_at.is_none() && link.expires_at > now;
        let of_question =
            |(tenant, link): &(TenantId, ApprovalLink)| *tenant == new.tenant && link.approval == new.approval;
        let open = self.links.iter().filter(|row| of_question(row) && is_open(&row.1)).count();
        if self.is_deleted(new.tenant) || open >= max {
            return LinkOutcome::TooMany;
        }
        let mut ended = self.links.iter().filter(|row| of_question(row) && !is_open(&row.1)).count();
        self.links.retain(|row| {
            let is_beyond = of_question(row) && !is_open(&row.1) && ended > max;
            ended -= usize::from(is_beyond);
            !is_beyond
        });
        let link = ApprovalLink {
            digest: new.digest,
            approval: new.approval,
            name: new.name,
            allowed: new.allowed,
            created_by: new.created_by,
            created_at: now,
            expires_at: now.plus(new.lives_ms),
            used_at: None,
            revoked_at: None,
        };
        self.links.push((new.tenant, link.clone()));
        LinkOutcome::Created(link)
    }

    fn find_link(&self, digest: &Digest) -> Option<FoundLink> {
        let (tenant, link) = self.links.iter().find(|(_, link)| link.digest == *digest)?.clone();
        if link.revoked_at.is_some() || !self.is_standing(tenant) {
            return None;
        }
        let mut question = self.questions.get(&(tenant, link.approval.clone()))?.clone();
        question.state = standing(&question, self.now);
        Some(FoundLink { tenant, is_expired: link.expires_at <= self.now, link, question })
    }

    fn links(&self, tenant: TenantId, approval: &str) -> Vec<ApprovalLink> {
        let of_question = self.links.iter().rev().filter(|(of, link)| *of == tenant && link.approval == approval);
        of_question.map(|(_, link)| link.clone()).collect()
    }

    fn revoke_link(&mut self, (tenant, approval): (TenantId, &str), id: &str) -> bool {
        let now = self.now;
        let mut found = self.links.iter_mut().filter(|(of, link)| {
            let is_open = link.used_at.is_none() && link.revoked_at.is_none();
            *of == tenant && link.approval == approval && link.id() == id && is_open
        });
        found.next().map(|(_, link)| link.revoked_at = Some(now)).is_some()
    }

    /// Uses up a link to a question. Returns `false` if it cannot be used.
    pub(crate) fn consume(&mut self, (tenant, approval): (TenantId, &str), digest: &Digest) -> bool {
        let (now, is_standing) = (self.now, self.is_standing(tenant));
        let mut found = self.links.iter_mut().filter(|(of, link)| {
            let is_open = link.used_at.is_none() && link.revoked_at.is_none() && link.expires_at > now;
            is_standing && *of == tenant && link.approval == approval && link.digest == *digest && is_open
        });
        found.next().map(|(_, link)| link.used_at = Some(now)).is_some()
    }

    /// Whether a tenant is neither suspended nor deleted.
    fn is_standing(&self, tenant: TenantId) -> bool {
        self.tenants.iter().any(|it| it.id == tenant && it.suspended_at.is_none() && it.deleted_at.is_none())
    }
}

impl LinkStore for MemoryStore {
    fn create_link(&self, link: NewLink, links_max: u32, act: Option<Act>) -> StoreFuture<'_, LinkOutcome> {
        let created = |outcome: &LinkOutcome| matches!(outcome, LinkOutcome::Created(_));
        self.act(act, |tables| tables.create_link(link, links_max), created)
    }

    fn find_link(&self, digest: &Digest) -> StoreFuture<'_, Option<FoundLink>> {
        self.transact(|tables| tables.find_link(digest))
    }

    fn links(&self, tenant: TenantId, approval: &str) -> StoreFuture<'_, Vec<ApprovalLink>> {
        self.transact(|tables| tables.links(tenant, approval))
    }

    fn revoke_link(&self, question: (TenantId, &str), id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.revoke_link(question, id), |revoked| *revoked)
    }
}
