-- Saved views of lists: a name for a filter and columns, which `content` has as JSON. An empty owner is the whole tenant;
-- any other one is the name with which tokens act.
create table views (
    saved_at integer not null,
    tenant_id integer not null,
    owner text not null,
    name text not null,
    content text not null,
    saved_by text,
    primary key (tenant_id, owner, name)
) strict, without rowid;
