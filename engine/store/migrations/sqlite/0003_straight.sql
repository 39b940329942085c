-- As long as this is the same, so is what the names of the tenant's components stand for.
alter table tenants add column uploads integer not null default 0;

-- What has ended is found by when, to be deleted in time.
create index executions_ended on executions (ended_at) where ended_at is not null;
