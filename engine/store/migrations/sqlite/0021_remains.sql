-- Executions that were deleted, and whose rows in other tables are not all gone yet: there may be gigabytes of them, which are
-- deleted piece by piece. No reader finds these rows, because each of them is found by way of the row in `executions`. `tries`
-- counts pieces that failed, so that the others come first.
create table remains (
    execution_no integer not null,
    tries integer not null default 0,
    tenant_id integer not null,
    primary key (tenant_id, execution_no)
) strict, without rowid;
create index remains_next on remains (tries, execution_no);
