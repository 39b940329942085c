-- The rows of the engine. Every key begins with tenant_id; `executions.execution_no` stands for (tenant_id, id) in all
-- dependent tables, to keep them small. Times are milliseconds since 1970, flags are 0 and 1.

create table tenants (
    tenant_id integer not null primary key,
    name text not null unique
) strict;
insert into tenants (tenant_id, name) values (1, 'default');

-- One row an incarnation. Every batch locks its node's row and changes it; so does the takeover: they are serial (L11).
create table nodes (
    incarnation integer primary key autoincrement,
    name text not null,
    duration_ms integer not null check (duration_ms > 0),
    lengthened_until integer not null default 0,  -- a committed batch counts as a renewal
    ended_at integer,
    batches text not null default ''  -- ids of the last batches and what became of them: settles an unknown COMMIT
) strict;
create unique index one_incarnation_of_a_node on nodes (name) where ended_at is null;

-- Renewals touch this row only, so that they wait for nobody.
create table leases (
    incarnation integer not null primary key,
    expires_at integer not null
) strict;

-- What executions run, written once: a workflow of a component.
create table programs (
    program_no integer primary key,
    tenant_id integer not null,
    workflow text not null,
    digest text not null,
    unique (tenant_id, workflow, digest)
) strict;

create table executions (
    execution_no integer primary key autoincrement,
    stamp integer not null,
    due integer,
    started_at integer not null,
    ended_at integer,
    owner integer,
    tenant_id integer not null,
    program_no integer not null,
    run integer not null check (run >= 1),
    position integer not null check (position >= 0),
    parent_run integer,
    state integer not null check (state between 0 and 3),  -- open, completed, failed, cancelled
    paused integer not null check (paused in (0, 1)),
    settled integer not null check (settled in (0, 1)),
    parent_awaited integer,
    id text not null,
    seed blob not null,
    status text not null,
    parked text,
    attributes text,
    facts text,
    parent_id text,
    parent_call text,
    constraint ended_is_a_state check ((state = 0) = (ended_at is null)),
    constraint ended_belongs_to_nobody check (state = 0 or owner is null),
    constraint parent_is_whole check (
        (parent_id is null) = (parent_run is null)
        and (parent_id is null) = (parent_call is null)
        and (parent_id is null) = (parent_awaited is null)
    )
) strict;
create unique index execution_ids on executions (tenant_id, id);
create index executions_due on executions ((case when settled = 1 or paused = 1 then due else 0 end))
    where owner is null and state = 0 and parked is null and (due is not null or settled = 0 and paused = 0);
create index executions_owned on executions (owner) where owner is not null;

-- Attributes a second time, one row each, for the filters of lists. Long names and values stand here by their digest.
create table attributes (
    execution_no integer not null,
    tenant_id integer not null,
    name text not null,
    value text not null,
    primary key (tenant_id, name, value, execution_no)
) strict, without rowid;
create index attributes_of_execution on attributes (tenant_id, execution_no);

-- A row holds the events of one commit. Positions have no gaps: readers check it, with the checksum.
create table history (
    execution_no integer not null,
    tenant_id integer not null,
    run integer not null check (run >= 1),
    first_position integer not null check (first_position >= 1),
    last_position integer not null check (last_position >= first_position),
    checksum integer not null,
    events text not null,
    primary key (tenant_id, execution_no, run, first_position)
) strict, without rowid;

create table calls (
    execution_no integer not null,
    tenant_id integer not null,
    call text not null,
    state text not null,
    primary key (tenant_id, execution_no, call)
) strict, without rowid;

create table inbox (
    seq integer primary key autoincrement,
    execution_no integer not null,
    tenant_id integer not null,
    seen integer not null default 0 check (seen in (0, 1)),
    message text not null
) strict;
create index inbox_of_execution on inbox (tenant_id, execution_no, seq);
create index inbox_unseen on inbox (tenant_id, execution_no) where seen = 0;

create table approvals (
    execution_no integer not null,
    requested_at integer not null,
    deadline integer,
    tenant_id integer not null,
    state integer not null check (state between 0 and 4),  -- open, approved, rejected, timed out, withdrawn
    id text not null,
    call text not null,
    request text not null,
    primary key (tenant_id, id)
) strict, without rowid;
create index approvals_of_execution on approvals (tenant_id, execution_no);
create index approvals_open on approvals (tenant_id, requested_at) where state = 0;

create table logs (
    execution_no integer not null,
    seq integer not null,
    logged_at integer not null,
    tenant_id integer not null,
    run integer not null,
    attempt integer not null,
    number integer not null,
    level integer not null check (level between 0 and 3),
    scope text not null,
    line text not null,
    primary key (tenant_id, execution_no, seq)
) strict, without rowid;
create unique index a_line_is_said_once on logs (tenant_id, execution_no, run, scope, attempt, number);

create table progress (
    execution_no integer not null,
    tenant_id integer not null,
    run integer not null,
    percent integer not null check (percent between 0 and 255),
    scope text not null,
    message text not null,
    primary key (tenant_id, execution_no, scope)
) strict, without rowid;

create table components (
    size_bytes integer not null,
    tenant_id integer not null,
    digest text not null,
    manifest text not null,
    primary key (tenant_id, digest)
) strict, without rowid;

create table component_bytes (
    tenant_id integer not null,
    digest text not null,
    bytes blob not null,
    primary key (tenant_id, digest)
) strict;

-- Which digests a name has had, and since when.
create table names (
    uploaded_at integer not null,
    tenant_id integer not null,
    current integer not null check (current in (0, 1)),
    name text not null,
    digest text not null,
    primary key (tenant_id, name, digest)
) strict, without rowid;
create unique index one_current_of_a_name on names (tenant_id, name) where current = 1;
