-- What other transactions want done when they have been committed. The process that leads takes it from here. refused:
-- why it will never be done; such rows stay until somebody deletes them.
create table {s}.outbox (
  id bigint generated always as identity primary key, at timestamptz not null default clock_timestamp(),
  what text not null, target text not null, kind text not null, data text not null, options jsonb not null, refused text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index outbox_waiting on {s}.outbox (id) where refused is null;

-- Enqueues a job when this transaction commits. options: priority, delay_ms, unique_key.
create function {s}.enqueue(queue text, kind text, payload json default 'null', options jsonb default '{}')
returns bigint language plpgsql as $$
declare
  number bigint;
  unknown text := (select min(k) from jsonb_object_keys(options) k where k not in ('priority', 'delay_ms', 'unique_key'));
begin
  if queue is null or queue !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$' then
    raise exception 'queue: "%" is not a name of A-Z, a-z, 0-9 and . _ : -', queue using errcode = '22023';
  elsif kind is null or length(kind) not between 1 and 255 then
    raise exception 'kind: has 1 to 255 characters' using errcode = '22023';
  elsif unknown is not null then
    raise exception 'options: there is no "%"; there are priority, delay_ms, unique_key', unknown using errcode = '22023';
  elsif coalesce((options ->> 'priority')::int, 5) not between 0 and 9 then
    raise exception 'options.priority: is a number from 0 to 9' using errcode = '22023';
  elsif coalesce((options ->> 'delay_ms')::bigint, 0) < 0 then
    raise exception 'options.delay_ms: is not negative' using errcode = '22023';
  end if;
  insert into {s}.outbox (what, target, kind, data, options)
    values ('enqueue', queue, kind, coalesce(payload::text, 'null'), options) returning outbox.id into number;
  return number;
end $$;

-- Publishes an event when this transaction commits. options: subject, partition_key.
create function {s}.publish(topic text, type text, data json default 'null', options jsonb default '{}')
returns bigint language plpgsql as $$
declare
  number bigint;
  unknown text := (select min(k) from jsonb_object_keys(options) k where k not in ('subject', 'partition_key'));
begin
  if topic is null or topic !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' or length(topic) > 255 then
    raise exception 'topic: "%" is not a name of words with dots between them', topic using errcode = '22023';
  elsif type is null or length(type) not between 1 and 255 then
    raise exception 'type: has 1 to 255 characters' using errcode = '22023';
  elsif unknown is not null then
    raise exception 'options: there is no "%"; there are subject, partition_key', unknown using errcode = '22023';
  end if;
  insert into {s}.outbox (what, target, kind, data, options)
    values ('publish', topic, type, coalesce(publish.data::text, 'null'), options) returning outbox.id into number;
  return number;
end $$;
