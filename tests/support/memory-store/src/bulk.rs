//! Bulk jobs, and the steps in which they are carried out.

use cerebelum_store::{
    Act, BulkJob, BulkRefusal, BulkStep, BulkStore, Command, Count, ExecutionKey, Filter, Incarnation, NewBulkJob,
    REFUSALS_KEPT, StoreFuture, TenantId,
};

use crate::{MemoryStore, Tables};

/// A job with what belongs to it.
pub(crate) struct StoredBulkJob {
    job: BulkJob,
    owner: Option<Incarnation>,
    refusals: Vec<BulkRefusal>,
}

impl StoredBulkJob {
    pub(crate) fn tenant(&self) -> TenantId {
        self.job.asked.tenant
    }

    fn is(&self, tenant: TenantId, id: &str) -> bool {
        self.job.asked.tenant == tenant && self.job.asked.id == id
    }

    fn is_open_of(&self, tenant: TenantId) -> bool {
        self.job.asked.tenant == tenant && self.job.ended_at.is_none()
    }
}

impl Tables {
    /// Counts the executions that match a filter.
    pub(crate) fn count(&self, tenant: TenantId, filter: &Filter, max: u64) -> Count {
        let (mut filter, mut executions) = (Filter { cursor: None, limit: 1_000, ..filter.clone() }, 0);
        loop {
            let page = self.list(tenant, &filter);
            executions += page.executions.len() as u64;
            filter.cursor = page.cursor;
            if executions > max || filter.cursor.is_none() {
                return Count { executions: executions.min(max), is_exact: executions <= max };
            }
        }
    }

    fn create_bulk(&mut self, new: NewBulkJob, (open_max, kept): (u32, u32)) -> bool {
        let (tenant, now) = (new.tenant, self.now);
        let open = self.bulk_jobs.iter().filter(|stored| stored.is_open_of(tenant)).count();
        let is_taken = self.bulk_jobs.iter().any(|stored| stored.is(tenant, &new.id));
        if self.is_deleted(tenant) || open >= open_max as usize || is_taken {
            return false;
        }
        let is_ended = |stored: &StoredBulkJob| stored.job.asked.tenant == tenant && stored.job.ended_at.is_some();
        let mut ended = self.bulk_jobs.iter().filter(|stored| is_ended(stored)).count();
        self.bulk_jobs.retain(|stored| {
            let is_beyond = is_ended(stored) && ended > kept as usize;
            ended -= usize::from(is_beyond);
            !is_beyond
        });
        let newest = self.executions.values().map(|row| row.no).max().unwrap_or_default();
        let job = BulkJob {
            asked: new,
            created_at: now,
            ended_at: None,
            stopped: false,
            done: 0,
            refused: 0,
            cursor: (newest + 1).to_string(),
        };
        self.bulk_jobs.push(StoredBulkJob { job, owner: None, refusals: Vec::new() });
        true
    }

    fn stop_bulk(&mut self, tenant: TenantId, id: &str) -> bool {
        let now = self.now;
        let found = self.bulk_jobs.iter_mut().find(|stored| stored.is(tenant, id) && stored.job.ended_at.is_none());
        found.map(|stored| (stored.job.ended_at, stored.job.stopped) = (Some(now), true)).is_some()
    }

    fn claim_bulk(&mut self, node: Incarnation) -> Vec<(TenantId, String)> {
        let owners: Vec<_> = self.bulk_jobs.iter().filter_map(|stored| stored.owner).collect();
        let living: Vec<_> = owners.into_iter().filter(|owner| self.is_not_over(*owner)).collect();
        let deleted: Vec<_> = self.tenants.iter().filter(|it| it.deleted_at.is_some()).map(|it| it.id).collect();
        let mut claimed = Vec::new();
        for stored in &mut self.bulk_jobs {
            let is_free = stored.owner.is_none_or(|owner| owner == node || !living.contains(&owner));
            if is_free && stored.job.ended_at.is_none() && !deleted.contains(&stored.job.asked.tenant) {
                stored.owner = Some(node);

                let place = claimed.iter().filter(|(_, tenant, _)| *tenant == stored.tenant()).count();
                claimed.push((place, stored.tenant(), stored.job.asked.id.clone()));
            }
        }
        claimed.sort_by_key(|(place, ..)| *place);
        claimed.into_iter().map(|(_, tenant, id)| (tenant, id)).collect()
    }

    fn bulk_step(&mut self, step: BulkStep) -> bool {
        let stands = |stored: &StoredBulkJob| {
            stored.is(step.tenant, &step.id) && stored.job.cursor == step.from && stored.job.ended_at.is_none()
        };
        let Some(at) = self.bulk_jobs.iter().position(stands) else { return false };
        let (mut done, mut refusals) = (0, step.refusals);
        for item in step.items {
            let key = ExecutionKey { tenant: step.tenant, id: item.execution };
            let mut commands = item.commands.into_iter();
            if !commands.next().is_some_and(|first| self.carry_out(&key, first)) {
                let reason = format!("execution `{}` changed in the meantime", key.id);
                refusals.push(BulkRefusal { execution: key.id, reason });
                continue;
            }
            for command in commands {
                self.carry_out(&key, command);
            }
            done += 1;
            self.note(item.act.as_ref());
        }
        let now = self.now;
        let StoredBulkJob { job, refusals: kept, .. } = &mut self.bulk_jobs[at];
        job.done += done;
        job.refused += refusals.len() as u64;
        kept.extend(refusals);
        kept.truncate(REFUSALS_KEPT as usize);
        match step.to {
            Some(cursor) => job.cursor = cursor,
            None => job.ended_at = Some(now),
        }
        true
    }

    /// Carries out a command. Returns `false` if it does not apply.
    pub(crate) fn carry_out(&mut self, key: &ExecutionKey, command: Command) -> bool {
        match command {
            Command::Send(message) => self.send(key, message),
            Command::Reopen(message) => self.reopen(key, message),
            Command::Unpark => self.unpark(key),
            Command::Park { incarnation, reason } => self.park(incarnation, key, reason),
            Command::Bury { messages } => self.bury(key, messages),
            Command::Delete => self.delete(key),
        }
    }
}

impl BulkStore for MemoryStore {
    fn create_bulk(&self, job: NewBulkJob, limits: (u32, u32), act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.create_bulk(job, limits), |created| *created)
    }

    fn bulk_jobs(&self, tenant: TenantId) -> StoreFuture<'_, Vec<BulkJob>> {
        self.transact(|tables| {
            let of_tenant = tables.bulk_jobs.iter().rev().filter(|stored| stored.job.asked.tenant == tenant);
            of_tenant.map(|stored| stored.job.clone()).collect()
        })
    }

    fn bulk_job(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<BulkJob>> {
        self.transact(|tables| {
            let found = tables.bulk_jobs.iter().find(|stored| stored.is(tenant, id));
            found.map(|stored| stored.job.clone())
        })
    }

    fn bulk_refusals(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Vec<BulkRefusal>> {
        self.transact(|tables| {
            let found = tables.bulk_jobs.iter().find(|stored| stored.is(tenant, id));
            found.map(|stored| stored.refusals.clone()).unwrap_or_default()
        })
    }

    fn stop_bulk(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.stop_bulk(tenant, id), |stopped| *stopped)
    }

    fn claim_bulk(&self, node: Incarnation) -> StoreFuture<'_, Vec<(TenantId, String)>> {
        self.transact(|tables| tables.claim_bulk(node))
    }

    fn bulk_step(&self, step: BulkStep) -> StoreFuture<'_, bool> {
        self.transact(|tables| tables.bulk_step(step))
    }
}
