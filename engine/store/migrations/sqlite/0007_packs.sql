-- The bytes of components, compressed: whole, or as the difference from another one's, whose row then stays as long as this
-- one does. What earlier engines stored whole in `component_bytes` is read from there.
create table component_packs (
    packed_at integer not null,
    size_bytes integer not null,
    tenant_id integer not null,
    digest text not null,
    base text,
    packed blob not null,
    primary key (tenant_id, digest)
) strict;

-- Whether this engine reads packs. One of the version before leaves it null: as long as it runs, what is uploaded is stored
-- whole as well.
alter table nodes add column reads_packs integer;
