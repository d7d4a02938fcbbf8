-- What each group has done, as the embedded store's journal writes it, with the counters after it: one row, by which the
-- group is durable. All other tables follow. The rows are in one of two tables; when the tables have followed everything in
-- the one that is not written, it is emptied as a whole (which needs no vacuum), and is written next. The view is for
-- whoever asks for both.
alter table {s}.journal rename to journal_0;
alter table {s}.journal_0 add column data bytea not null default '';
alter table {s}.journal_0 alter column data set storage external;
create table {s}.journal_1 (like {s}.journal_0 including all);

-- One row: up to which group the tables are, with the counters after it. Whoever brings them further locks it, and finds it
-- as it was left.
create table {s}.reached (
  one boolean primary key default true check (one),
  lsn bigint not null, token bigint not null, n bigint not null, f bigint not null,
  k bigint not null, audit bigint not null, clock bigint not null, last_seq bigint not null
) with (fillfactor = 10);
insert into {s}.reached select true, lsn, token, n, f, k, audit, clock, last_seq from {s}.journal_0
  order by lsn desc limit 1;
insert into {s}.reached select true, 0, 0, 0, 0, 0, 0, 0, 0 where not exists (select 1 from {s}.reached);

-- What stood beside the rows of jobs, as a group that they follow: of each job the newest, if its row is older.
insert into {s}.journal_0 (lsn, epoch, token, n, f, k, audit, clock, last_seq, data)
  select r.lsn + 1, (select epoch from {s}.leader), r.token, r.n, r.f, r.k, r.audit, r.clock, r.last_seq, newest.data
  from {s}.reached r, (
    select string_agg(e.change, ''::bytea order by e.id) as data from (
      select distinct on (id) id, lsn, change
      from (select lsn, unnest(ids) as id, unnest(changes) as change from {s}.recent) entry
      order by id, lsn desc
    ) e join {s}.job on job.id = e.id and job.lsn < e.lsn
  ) newest where newest.data is not null;
drop table {s}.recent;
alter table {s}.job drop column lsn;
create view {s}.journal as select * from {s}.journal_0 union all select * from {s}.journal_1;

-- Whoever brings the tables further. A new leader waits here for the transaction that is under way; what comes later
-- than its epoch finds that it has begun.
create function {s}.prove_tables(mine bigint, left_at bigint) returns void language plpgsql as $$
begin
  perform 1 from {s}.reached where lsn = left_at for update;
  if not found then
    raise exception 'the tables are at another group' using errcode = 'MS002';
  end if;
  perform 1 from {s}.leader where epoch = mine;
  if not found then
    raise exception 'another process leads the store' using errcode = 'MS001';
  end if;
end $$;

-- Empties a table of the journal, if the tables have all of it: asked when nobody can write to it any more.
create function {s}.clear_journal(which int) returns boolean language plpgsql set lock_timeout = '100ms' as $$
declare
  lacking boolean;
begin
  execute format('lock table {s}.journal_%s in access exclusive mode', which);
  execute format('select exists (select 1 from {s}.journal_%s where lsn > (select lsn from {s}.reached))', which) into lacking;
  if not lacking then
    execute format('truncate {s}.journal_%s', which);
  end if;
  return not lacking;
end $$;
