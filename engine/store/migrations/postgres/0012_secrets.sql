-- What requests of a tenant's steps may reach and contain. A secret is sealed with the tenant's data key, and that with a
-- key which only the engines have. The hosts to which a secret may go are sealed with it.
create table data_keys (
    version bigint not null,
    tenant_id integer not null,
    key_id text not null,
    wrapped bytea not null,
    primary key (tenant_id)
);
create table secrets (
    created_at bigint not null,
    changed_at bigint not null,
    tenant_id integer not null,
    name text not null,
    hosts text not null,
    sealed bytea not null,
    primary key (tenant_id, name)
);
-- The hosts that the operator allows to the tenant, as a JSON array; null for what the engine's configuration says.
alter table tenants add column hosts text;
