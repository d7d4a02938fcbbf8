-- What a request could not say either, a transaction cannot hand in: it fails, with SQLSTATE 22023 and the field. What takes
-- a reader of JSON to see (keys twice, numbers no double can hold, nesting beyond 128), the process that leads refuses.
create index outbox_refused on {s}.outbox (id) where refused is not null;

create or replace function {s}.enqueue(queue text, kind text, payload json default 'null', options jsonb default '{}')
returns bigint language plpgsql as $$
declare
  number bigint;
  given jsonb := coalesce(options, '{}');
  unknown text;
begin
  if jsonb_typeof(given) <> 'object' then
    raise exception 'options: is an object' using errcode = '22023';
  end if;
  given := jsonb_strip_nulls(given);
  unknown := (select min(k) from jsonb_object_keys(given) k where k not in ('priority', 'delay_ms', 'unique_key', 'id'));
  if queue is null or queue !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$' then
    raise exception 'queue: "%" is not a name of A-Z, a-z, 0-9 and . _ : -', left(queue, 200) using errcode = '22023';
  elsif kind is null or octet_length(kind) not between 1 and 256 then
    raise exception 'kind: has 1 to 256 bytes' using errcode = '22023';
  elsif octet_length(payload::text) > 1048576 then
    raise exception 'payload: has % bytes, at most 1048576 are allowed', octet_length(payload::text) using errcode = '22023';
  elsif unknown is not null then
    raise exception 'options: there is no "%"; there are priority, delay_ms, unique_key, id', left(unknown, 200) using errcode = '22023';
  elsif jsonb_typeof(given -> 'priority') <> 'number' or given ->> 'priority' !~ '^[0-9]$' then
    raise exception 'options.priority: is a number from 0 to 9' using errcode = '22023';
  elsif jsonb_typeof(given -> 'delay_ms') <> 'number' or given ->> 'delay_ms' !~ '^[0-9]{1,13}$'
      or given -> 'delay_ms' > to_jsonb(3162240000000) then
    raise exception 'options.delay_ms: is a whole number of milliseconds from 0 to 100 years' using errcode = '22023';
  elsif jsonb_typeof(given -> 'unique_key') <> 'string' or octet_length(given ->> 'unique_key') not between 1 and 256 then
    raise exception 'options.unique_key: is a string of 1 to 256 bytes' using errcode = '22023';
  elsif jsonb_typeof(given -> 'id') <> 'string'
      or given ->> 'id' !~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' then
    raise exception 'options.id: is a string with a UUID of version 7' using errcode = '22023';
  end if;
  insert into {s}.outbox (what, target, kind, data, options)
    values ('enqueue', queue, kind, coalesce(payload::text, 'null'), given) returning outbox.id into number;
  return number;
end $$;

create or replace function {s}.publish(topic text, type text, data json default 'null', options jsonb default '{}')
returns bigint language plpgsql as $$
declare
  number bigint;
  given jsonb := coalesce(options, '{}');
  unknown text;
begin
  if jsonb_typeof(given) <> 'object' then
    raise exception 'options: is an object' using errcode = '22023';
  end if;
  given := jsonb_strip_nulls(given);
  unknown := (select min(k) from jsonb_object_keys(given) k where k not in ('subject', 'partition_key'));
  if topic is null or topic !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$' or length(topic) > 255 then
    raise exception 'topic: "%" is not a name of 1 to 16 words with dots between them', left(topic, 300) using errcode = '22023';
  elsif type is null or octet_length(type) not between 1 and 1024 or type ~ '[[:cntrl:]]' then
    raise exception 'type: has 1 to 1024 bytes and no control characters' using errcode = '22023';
  elsif octet_length(publish.data::text) > 1048576 then
    raise exception 'data: has % bytes, at most 1048576 are allowed', octet_length(publish.data::text) using errcode = '22023';
  elsif unknown is not null then
    raise exception 'options: there is no "%"; there are subject, partition_key', left(unknown, 200) using errcode = '22023';
  elsif jsonb_typeof(given -> 'subject') <> 'string' or octet_length(given ->> 'subject') not between 1 and 1024
      or given ->> 'subject' ~ '[[:cntrl:]]' then
    raise exception 'options.subject: is a string of 1 to 1024 bytes without control characters' using errcode = '22023';
  elsif jsonb_typeof(given -> 'partition_key') <> 'string'
      or octet_length(given ->> 'partition_key') not between 1 and 1024
      or given ->> 'partition_key' ~ '[[:cntrl:]]' then
    raise exception 'options.partition_key: is a string of 1 to 1024 bytes without control characters' using errcode = '22023';
  end if;
  insert into {s}.outbox (what, target, kind, data, options)
    values ('publish', topic, type, coalesce(publish.data::text, 'null'), given) returning outbox.id into number;
  return number;
end $$;
