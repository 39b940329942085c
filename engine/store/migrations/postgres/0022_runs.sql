-- The first run that is kept of an execution whose earlier runs were removed; null while all are kept. Readers go by this
-- number alone. While rows of earlier runs are left, `clearing` is 1.
alter table executions add column runs_from bigint;
alter table executions add column clearing smallint;
-- The bytes that removed runs have given back. With `bytes` it comes to everything that the execution has ever counted; the
-- first chunk of a further run says how much that was before this run.
alter table executions add column bytes_back bigint not null default 0;
alter table history add column bytes_before bigint;
-- The run that asked a question; null where an engine of the version before wrote it.
alter table approvals add column run integer;
create index approvals_of_run on approvals (tenant_id, execution_no, run) where run is not null;
-- Chains by the number of runs before the present one that are stored; those whose removal has begun come after all others.
create index executions_chains on executions ((case when clearing = 1 then 4294967295 else run - coalesce(runs_from, 1) end))
    where run > 1;
