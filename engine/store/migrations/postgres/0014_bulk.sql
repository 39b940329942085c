-- Bulk jobs: one operation on every execution that matches a filter. `cursor` is the place in the list of executions at
-- which a job goes on, and moves in the transaction that carries out a step. `owner` is the node that works on it.
create table bulk_jobs (
    created_at bigint not null,
    ended_at bigint,
    owner bigint,
    at_most bigint not null,
    matched bigint not null,
    done bigint not null default 0,
    refused bigint not null default 0,
    tenant_id integer not null,
    stopped integer not null default 0,
    id text not null,
    operation text not null,
    filter text not null,
    cursor text not null,
    caller text,
    token_id text,
    address text,
    primary key (tenant_id, id)
);
create index bulk_jobs_open on bulk_jobs (created_at) where ended_at is null;

-- The first executions on which a job could not carry out its operation, and the reasons.
create table bulk_refusals (
    ordinal bigint not null,
    tenant_id integer not null,
    id text not null,
    execution_id text not null,
    reason text not null,
    primary key (tenant_id, id, ordinal)
);
