-- What is due, tenant by tenant: the claims of one tenant do not read through what another one has due. The condition and the
-- expression are those of `executions_due`.
create index executions_due_of on executions (tenant_id, (case when settled = 1 or paused = 1 then due else 0 end))
    where owner is null and state = 0 and parked is null and (due is not null or settled = 0 and paused = 0);
