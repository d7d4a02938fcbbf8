-- {s} stands for the name of the schema. Times are milliseconds: wall times since 1970, store times (lease_until,
-- claimed_at) on the store's own clock. A job's number n leads to its body, result, progress and failures. Columns called
-- data, meta, more, extras and moved are changes as the journal of the embedded store writes them.

-- One row: who may write. A writer proves its epoch in every transaction.
create table {s}.leader (
  one boolean primary key default true check (one),
  epoch bigint not null, owner text, backend_pid int, backend_start timestamptz, expires timestamptz not null
) with (fillfactor = 10);
insert into {s}.leader values (true, 0, null, null, null, '-infinity');

-- One row a group, with the counters after it. Only the newest are kept. Inserted and deleted, never updated: a snapshot
-- that somebody holds must not make a row of many versions of it.
create table {s}.journal (
  lsn bigint primary key, epoch bigint not null, token bigint not null, n bigint not null, f bigint not null,
  k bigint not null, audit bigint not null, clock bigint not null, last_seq bigint not null
);

create function {s}.prove(mine bigint) returns void language plpgsql as $$
begin
  perform 1 from {s}.leader where epoch = mine for update;
  if not found then
    raise exception 'another process leads the store' using errcode = 'MS001';
  end if;
end $$;

-- Unfinished jobs. phase: 0 waits, 1 blocked, 2 running. flags: 1 waits for a back-off, 2 cancel requested.
create table {s}.job (
  id uuid primary key, n bigint not null, queue int not null, policy int not null,
  priority smallint not null, phase smallint not null, flags smallint not null,
  run_at bigint not null, created_at bigint not null,
  attempt int not null, crashes int not null, size bigint not null,
  token bigint, nonce bigint, lease_until bigint, lease_ms bigint, claimed_at bigint, worker text,
  settled_token bigint, settled_nonce bigint, settled_verb smallint, settled_state smallint, settled_run_at bigint,
  extras bytea
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- Finished jobs in the order in which they are forgotten. lane: 0 completed and cancelled, 1 dead, 2 with a retention of
-- their own. state: 5 completed, 6 cancelled, 7 dead. reason: 0 exhausted, 1 permanent, 2 crashed, 3 expired.
create table {s}.finished (
  queue int not null, lane smallint not null, f bigint not null,
  id uuid not null, n bigint not null, policy int not null,
  priority smallint not null, flags smallint not null, run_at bigint not null, created_at bigint not null,
  attempt int not null, crashes int not null, size bigint not null,
  state smallint not null, reason smallint, finished_at bigint not null,
  settled_token bigint, settled_nonce bigint, settled_verb smallint, settled_state smallint, settled_run_at bigint,
  extras bytea,
  primary key (queue, lane, f)
);
create unique index finished_id on {s}.finished (id);

-- more: what few have (tags, meta, traceparent, what it waited for).
create table {s}.body (n bigint primary key, kind text not null, payload text not null, more bytea);
create table {s}.result (n bigint primary key, result text not null);
create table {s}.progress (n bigint primary key, progress text not null);
-- A ring of the newest 32 failures of a job.
create table {s}.failure (n bigint not null, slot smallint not null, data bytea not null, primary key (n, slot));

-- The log. It is numbered without gaps.
create table {s}.event (
  seq bigint primary key, topic int not null, at bigint not null, meta bytea not null, body bytea not null
);
create index event_topic on {s}.event (topic, seq);
-- Dead letters of groups, with the event. revived: it is being delivered again.
create table {s}.dead_event (
  number bigint primary key, grp int not null, revived boolean not null, letter bytea not null, body bytea not null
);
create index dead_event_group on {s}.dead_event (grp, number);

-- What the engine keeps in RAM, to be read when somebody begins to lead. moved: the part that changes often, where it
-- is kept apart.
create table {s}.policy (key bytea primary key, data bytea not null, moved bytea);
create table {s}.queue (key bytea primary key, data bytea not null, moved bytea);
create table {s}.limits (key bytea primary key, data bytea not null, moved bytea);
create table {s}.edge (key bytea primary key, data bytea not null, moved bytea);
create table {s}.ended (key bytea primary key, data bytea not null, moved bytea);
create table {s}.uniq (key bytea primary key, data bytea not null, moved bytea);
create table {s}.keyed (key bytea primary key, data bytea not null, moved bytea);
create table {s}.access_token (key bytea primary key, data bytea not null, moved bytea);
create table {s}.audit (key bytea primary key, data bytea not null, moved bytea);
create table {s}.lock_grant (key bytea primary key, data bytea not null, moved bytea);
create table {s}.lock_waiter (key bytea primary key, data bytea not null, moved bytea);
create table {s}.topic (key bytea primary key, data bytea not null, moved bytea);
create table {s}.topic_trimmed (key bytea primary key, data bytea not null, moved bytea);
create table {s}.event_dedup (key bytea primary key, data bytea not null, moved bytea);
create table {s}.event_group (key bytea primary key, data bytea not null, moved bytea);
create table {s}.delivery (key bytea primary key, data bytea not null, moved bytea);
create table {s}.settled_delivery (key bytea primary key, data bytea not null, moved bytea);
create table {s}.schedule (key bytea primary key, data bytea not null, moved bytea);
