-- A line is named by the event it followed: a step that is run again says its lines again, and those are other lines.
alter table logs add column place integer not null default 0;
drop index a_line_is_said_once;
create unique index a_line_is_said_once on logs (tenant_id, execution_no, run, scope, attempt, place, number);
