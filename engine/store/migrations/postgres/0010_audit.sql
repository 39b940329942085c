-- What clients did, one row for each act that was acknowledged, written in the transaction of the act itself. `chance` tells
-- acts of one millisecond apart and, unlike a counter, says nothing about other tenants.
create table audit (
    at bigint not null,
    chance bigint not null,
    tenant_id integer not null,
    caller text,
    token_id text,
    address text,
    operation text not null,
    object text not null,
    outcome text not null,
    primary key (tenant_id, at, chance)
);
