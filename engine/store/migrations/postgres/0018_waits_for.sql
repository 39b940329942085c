-- What an execution waits for, as the engine derived it with the status: one JSON object, null while it works.
alter table executions add column waits_for text;
