-- How often nodes died and never came back while an execution could move, and at which position that was counted. Where it
-- has moved on since, the count says nothing.
alter table executions add column crashes integer;
alter table executions add column crashed_at integer;
create index executions_suspected on executions (owner) where crashes >= 2;
