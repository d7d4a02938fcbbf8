-- What has changed of many unfinished jobs at once, lately: a row a group, with an entry a job. Most are handed out and end
-- within a moment, and their own rows never change. An entry counts if the job is there, its row was written by an earlier
-- group (lsn), and no later entry says otherwise. What lives on is written into the rows of the jobs after a second or so.
alter table {s}.job add column lsn bigint not null default 0;
create table {s}.recent (lsn bigint primary key, ids uuid[] not null, changes bytea[] not null)
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table {s}.recent alter column ids set storage external, alter column changes set storage external;
-- Few of them are changed in their rows now.
alter table {s}.job set (fillfactor = 70);
