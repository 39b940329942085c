-- The rows of the engine. Every key begins with tenant_id; `executions.execution_no` stands for (tenant_id, id) in all
-- dependent tables, to keep them small. Times are milliseconds since 1970, flags are 0 and 1.

create table tenants (
    tenant_id integer not null primary key,
    name text not null unique
);
insert into tenants (tenant_id, name) values (1, 'default');

-- One row an incarnation. Every batch locks its node's row and changes it; so does the takeover: they are serial (L11).
create table nodes (
    incarnation bigint generated always as identity primary key,
    name text not null,
    duration_ms bigint not null check (duration_ms > 0),
    lengthened_until bigint not null default 0,  -- a committed batch counts as a renewal
    ended_at bigint,
    batches text not null default ''  -- ids of the last batches and what became of them: settles an unknown COMMIT
) with (fillfactor = 20);
create unique index one_incarnation_of_a_node on nodes (name) where ended_at is null;

-- Renewals touch this row only, so that they wait for nobody.
create table leases (
    incarnation bigint not null primary key,
    expires_at bigint not null
) with (fillfactor = 20);

-- What executions run, written once: a workflow of a component.
create table programs (
    program_no integer generated always as identity,
    tenant_id integer not null,
    workflow text not null,
    digest text not null,
    primary key (tenant_id, program_no),
    unique (tenant_id, workflow, digest)
);

create table executions (
    execution_no bigint generated always as identity,
    stamp bigint not null,
    due bigint,
    started_at bigint not null,
    ended_at bigint,
    owner bigint,
    tenant_id integer not null,
    program_no integer not null,
    run integer not null check (run >= 1),
    position integer not null check (position >= 0),
    parent_run integer,
    state smallint not null check (state between 0 and 3),  -- open, completed, failed, cancelled
    paused smallint not null check (paused in (0, 1)),
    settled smallint not null check (settled in (0, 1)),
    parent_awaited smallint,
    id text not null,
    seed bytea not null,
    status text not null,
    parked text,
    attributes text,
    facts text,
    parent_id text,
    parent_call text,
    primary key (tenant_id, execution_no),
    constraint ended_is_a_state check ((state = 0) = (ended_at is null)),
    constraint ended_belongs_to_nobody check (state = 0 or owner is null),
    constraint parent_is_whole check (
        (parent_id is null) = (parent_run is null)
        and (parent_id is null) = (parent_call is null)
        and (parent_id is null) = (parent_awaited is null)
    )
);
create unique index execution_ids on executions (tenant_id, id);
create index executions_due on executions ((case when settled = 1 or paused = 1 then due else 0 end))
    where owner is null and state = 0 and parked is null and (due is not null or settled = 0 and paused = 0);
create index executions_owned on executions (owner) where owner is not null;

-- Attributes a second time, one row each, for the filters of lists. Long names and values stand here by their digest.
create table attributes (
    execution_no bigint not null,
    tenant_id integer not null,
    name text not null,
    value text not null,
    primary key (tenant_id, name, value, execution_no)
);
create index attributes_of_execution on attributes (tenant_id, execution_no);

-- A row holds the events of one commit. Positions have no gaps: readers check it, with the checksum.
create table history (
    execution_no bigint not null,
    tenant_id integer not null,
    run integer not null check (run >= 1),
    first_position integer not null check (first_position >= 1),
    last_position integer not null check (last_position >= first_position),
    checksum integer not null,
    events text not null,
    primary key (tenant_id, execution_no, run, first_position)
);

create table calls (
    execution_no bigint not null,
    tenant_id integer not null,
    call text not null,
    state text not null,
    primary key (tenant_id, execution_no, call)
);

create table inbox (
    seq bigint generated always as identity,
    execution_no bigint not null,
    tenant_id integer not null,
    seen smallint not null default 0 check (seen in (0, 1)),
    message text not null,
    primary key (tenant_id, execution_no, seq)
);
create index inbox_unseen on inbox (tenant_id, execution_no) where seen = 0;

create table approvals (
    execution_no bigint not null,
    requested_at bigint not null,
    deadline bigint,
    tenant_id integer not null,
    state smallint not null check (state between 0 and 4),  -- open, approved, rejected, timed out, withdrawn
    id text not null,
    call text not null,
    request text not null,
    primary key (tenant_id, id)
);
create index approvals_of_execution on approvals (tenant_id, execution_no);
create index approvals_open on approvals (tenant_id, requested_at) where state = 0;

create table logs (
    execution_no bigint not null,
    seq bigint not null,
    logged_at bigint not null,
    tenant_id integer not null,
    run integer not null,
    attempt integer not null,
    number integer not null,
    level smallint not null check (level between 0 and 3),
    scope text not null,
    line text not null,
    primary key (tenant_id, execution_no, seq)
);
create unique index a_line_is_said_once on logs (tenant_id, execution_no, run, scope, attempt, number);

create table progress (
    execution_no bigint not null,
    tenant_id integer not null,
    run integer not null,
    percent smallint not null check (percent between 0 and 255),
    scope text not null,
    message text not null,
    primary key (tenant_id, execution_no, scope)
);

create table components (
    size_bytes bigint not null,
    tenant_id integer not null,
    digest text not null,
    manifest text not null,
    primary key (tenant_id, digest)
);

create table component_bytes (
    tenant_id integer not null,
    digest text not null,
    bytes bytea not null,
    primary key (tenant_id, digest)
);

-- Which digests a name has had, and since when.
create table names (
    uploaded_at bigint not null,
    tenant_id integer not null,
    current smallint not null check (current in (0, 1)),
    name text not null,
    digest text not null,
    primary key (tenant_id, name, digest)
);
create unique index one_current_of_a_name on names (tenant_id, name) where current = 1;
