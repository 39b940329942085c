-- How many calls of an execution are open, and at which position that was counted. Nothing refers to them where an engine
-- wrote the head that does not count: then the positions differ, and the count says nothing.
alter table executions add column open_calls integer;
alter table executions add column counted_at integer;

-- Lists by a status that few executions have. What most of them are for most of the time is not worth an index.
create index executions_by_status on executions (tenant_id, status, execution_no)
    where status not in ('running', 'completed');
