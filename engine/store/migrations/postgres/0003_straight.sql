-- Appends that find everything as expected are one statement. Where something is not, this ends it.
create function not_as_expected() returns integer language plpgsql as $$
begin
    raise exception 'not as expected';
end
$$;

-- A plan made while the table is empty must not walk all executions of a tenant: their numbers are unique by themselves.
alter table executions drop constraint executions_pkey;
alter table executions add constraint executions_pkey primary key (execution_no, tenant_id);

-- As long as this is the same, so is what the names of the tenant's components stand for.
alter table tenants add column uploads bigint not null default 0;

-- What has ended is found by when, to be deleted in time.
create index executions_ended on executions (ended_at) where ended_at is not null;

-- To compress the bytes of a component takes longer than to write them.
alter table component_bytes alter column bytes set storage external;
