-- The executions of a tenant in the order of their numbers: without this index, a list of a tenant with few executions reads
-- through those of all others.
create index executions_of_tenant on executions (tenant_id);
