-- Links with which a person answers one question without a token. Of the secret in a link only the digest is stored.
-- `decisions` says what a link may do: 1 approve, 2 reject, 3 both.
create table approval_links (
    created_at integer not null,
    expires_at integer not null,
    used_at integer,
    revoked_at integer,
    execution_no integer not null,
    tenant_id integer not null,
    decisions integer not null,
    digest text not null,
    approval_id text not null,
    name text not null,
    created_by text,
    primary key (digest)
) strict;
create index approval_links_of_question on approval_links (tenant_id, execution_no, approval_id);
