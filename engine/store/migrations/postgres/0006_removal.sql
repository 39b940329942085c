-- Since when a component has had no name; null while it has one. An engine of the version before leaves this as it is when
-- it uploads the component again, so it counts only for a component without a row in `names`.
alter table components add column nameless_since bigint;
