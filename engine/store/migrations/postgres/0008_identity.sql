-- Whom executions belong to, and the tokens with which people and programs act for a tenant. Of a token's secret only the
-- digest is stored. A revoked token keeps its row: an engine that ever had a token is never open again.
alter table tenants add column created_at bigint not null default 0;
alter table tenants add column suspended_at bigint;

create table tokens (
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint,
    last_used_at bigint,
    tenant_id integer not null,
    token_id text not null,
    role text not null,
    name text not null,
    secret_digest text not null,
    primary key (token_id)
);
create index tokens_of_tenant on tokens (tenant_id, created_at);
