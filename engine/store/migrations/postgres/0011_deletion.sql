-- When the deletion of a tenant began. What belongs to the tenant is deleted piece by piece; its row stays without a name, so
-- that no other tenant gets its number.
alter table tenants add column deleted_at bigint;
