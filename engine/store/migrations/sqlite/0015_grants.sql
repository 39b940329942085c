-- What versions of a component may use: `capabilities` is a JSON array of what was granted to a name. A name without a row
-- had versions before there were grants: it was granted all that these ask for.
create table grants (
    tenant_id integer not null,
    name text not null,
    capabilities text not null,
    primary key (tenant_id, name)
) strict;
-- A version that asks for more is proposed: it is not current, and this column has its time of upload. An engine that does
-- not know the column changes that time when it makes the version current.
alter table names add column proposed_at integer;
