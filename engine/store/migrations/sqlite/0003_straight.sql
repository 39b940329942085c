-- As long as this is the same, so is what the names of the tenant's components stand for.
alter table tenants add column uploads integer not null default 0;
