-- The quotas that were set for a tenant, by name, as one JSON object.
alter table tenants add column quotas text not null default '{}';
-- What is open is counted for its tenant.
create index executions_open on executions (tenant_id) where state = 0;
