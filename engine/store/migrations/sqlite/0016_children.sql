-- The children of an execution are found by its id. Most executions are no children, and have no entry here.
create index executions_children on executions (tenant_id, parent_id, execution_no) where parent_id is not null;
