-- What executions stored is counted for their tenants, in the transactions that write and delete it. An execution keeps its
-- own part, to give it back. What an engine of a version before writes is not counted.
alter table executions add column bytes integer not null default 0;
-- Several rows a tenant, so that those who write at once do not wait for each other. The sum of them is that of all
-- `executions.bytes` of the tenant; one row alone may be negative.
create table tenant_bytes (
    bytes integer not null,
    tenant_id integer not null,
    shard integer not null,
    primary key (tenant_id, shard)
) strict, without rowid;
