-- Calls of processes that follow, and the answers of the one that leads. Not logged: after a crash of the server they are
-- empty, and who waits hears that nobody knows.
create unlogged table {s}.calls (
  id bigint generated always as identity primary key, caller text not null, body bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create unlogged table {s}.replies (
  id bigint generated always as identity primary key, caller text not null, body bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
