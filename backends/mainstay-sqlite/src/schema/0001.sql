-- Times are milliseconds: wall times since 1970, store times (lease_until, claimed_at) on the store's own clock.
-- A job's number n leads to its body, result, progress and failures.

-- One row: the counters of the last group. clean = 1: closed in good order.
CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  token INTEGER NOT NULL, n INTEGER NOT NULL, f INTEGER NOT NULL, k INTEGER NOT NULL, audit INTEGER NOT NULL,
  clock INTEGER NOT NULL,
  clean INTEGER NOT NULL
);
INSERT INTO meta VALUES (1, 0, 0, 0, 0, 0, 0, 1);

CREATE TABLE queue (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, paused INTEGER NOT NULL, dropped INTEGER NOT NULL, config TEXT NOT NULL
);

-- Equal rules of jobs are kept once.
CREATE TABLE policy (
  id INTEGER PRIMARY KEY,
  max_attempts INTEGER NOT NULL, max_crashes INTEGER,
  base_ms INTEGER NOT NULL, factor_milli INTEGER NOT NULL, max_ms INTEGER NOT NULL, jitter INTEGER NOT NULL,
  timeout_ms INTEGER, retain_ms INTEGER
);

-- Unfinished jobs. phase: 0 waits, 1 blocked, 2 running. flags: 1 waits for a back-off, 2 cancel requested.
CREATE TABLE job (
  id BLOB PRIMARY KEY, n INTEGER NOT NULL, queue INTEGER NOT NULL, policy INTEGER NOT NULL,
  priority INTEGER NOT NULL, phase INTEGER NOT NULL, flags INTEGER NOT NULL,
  run_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL, crashes INTEGER NOT NULL, size INTEGER NOT NULL,
  expires_at INTEGER, unique_key TEXT,
  token INTEGER, nonce INTEGER, lease_until INTEGER, lease_ms INTEGER, claimed_at INTEGER, worker TEXT,
  settled_token INTEGER, settled_nonce INTEGER, settled_verb INTEGER, settled_state INTEGER, settled_run_at INTEGER
) WITHOUT ROWID;

-- Finished jobs in the order in which they are forgotten. lane: 0 completed and cancelled, 1 dead, 2 with a
-- retain_ms of their own (f >> 14 is when). state: 5 completed, 6 cancelled, 7 dead.
-- reason: 0 exhausted, 1 permanent, 2 crashed, 3 expired.
CREATE TABLE finished (
  queue INTEGER NOT NULL, lane INTEGER NOT NULL, f INTEGER NOT NULL,
  id BLOB NOT NULL, n INTEGER NOT NULL, policy INTEGER NOT NULL,
  priority INTEGER NOT NULL, flags INTEGER NOT NULL, run_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL, crashes INTEGER NOT NULL, size INTEGER NOT NULL,
  state INTEGER NOT NULL, reason INTEGER, finished_at INTEGER NOT NULL,
  expires_at INTEGER, unique_key TEXT,
  settled_token INTEGER, settled_nonce INTEGER, settled_verb INTEGER, settled_state INTEGER, settled_run_at INTEGER,
  PRIMARY KEY (queue, lane, f)
) WITHOUT ROWID;
CREATE UNIQUE INDEX finished_id ON finished (id);

-- What lists look for comes first: a long payload is not read for it.
CREATE TABLE body (
  n INTEGER PRIMARY KEY, kind TEXT NOT NULL, tags TEXT, traceparent TEXT, meta TEXT, payload TEXT NOT NULL
);
CREATE TABLE result (n INTEGER PRIMARY KEY, result TEXT NOT NULL);
CREATE TABLE progress (n INTEGER PRIMARY KEY, progress TEXT NOT NULL);

-- A ring of the newest 32 failures of a job: slot = attempt % 32.
CREATE TABLE failure (
  n INTEGER NOT NULL, slot INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,
  type TEXT, message TEXT NOT NULL, backtrace TEXT,
  PRIMARY KEY (n, slot)
) WITHOUT ROWID;

CREATE TABLE uniq (
  queue INTEGER NOT NULL, key TEXT NOT NULL, id BLOB NOT NULL, until INTEGER, PRIMARY KEY (queue, key)
) WITHOUT ROWID;

-- Answers given under idempotency keys.
CREATE TABLE keyed (
  k INTEGER PRIMARY KEY, scope BLOB NOT NULL, fingerprint BLOB NOT NULL, at INTEGER NOT NULL, replies TEXT NOT NULL
);

CREATE TABLE access_token (
  name TEXT PRIMARY KEY, hash BLOB NOT NULL, scopes TEXT NOT NULL, created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
  number INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
  detail TEXT NOT NULL
);

-- For people with the sqlite3 shell. Nothing in the program reads it.
CREATE VIEW jobs AS
WITH every AS (
  SELECT id, n, queue, priority,
    CASE phase WHEN 2 THEN 'running' WHEN 1 THEN 'blocked' ELSE
      CASE WHEN run_at <= unixepoch('subsec') * 1000 THEN 'available' WHEN flags & 1 THEN 'retryable' ELSE 'scheduled' END
    END AS state,
    NULL AS reason, attempt, crashes, run_at, created_at, NULL AS finished_at, token, worker
  FROM job
  UNION ALL
  SELECT id, n, queue, priority,
    CASE state WHEN 5 THEN 'completed' WHEN 6 THEN 'cancelled' ELSE 'dead' END,
    CASE reason WHEN 0 THEN 'exhausted' WHEN 1 THEN 'permanent' WHEN 2 THEN 'crashed' WHEN 3 THEN 'expired' END,
    attempt, crashes, run_at, created_at, finished_at, NULL, NULL
  FROM finished
)
SELECT
  lower(substr(hex(every.id), 1, 8) || '-' || substr(hex(every.id), 9, 4) || '-' || substr(hex(every.id), 13, 4)
    || '-' || substr(hex(every.id), 17, 4) || '-' || substr(hex(every.id), 21)) AS id,
  queue.name AS queue, body.kind, every.state, every.reason, every.priority, every.attempt, every.crashes,
  strftime('%Y-%m-%dT%H:%M:%fZ', every.run_at / 1000.0, 'unixepoch') AS run_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', every.created_at / 1000.0, 'unixepoch') AS created_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', every.finished_at / 1000.0, 'unixepoch') AS finished_at,
  every.token, every.worker, body.payload, body.meta, body.tags, result.result, progress.progress
FROM every
LEFT JOIN queue ON queue.id = every.queue
LEFT JOIN body ON body.n = every.n
LEFT JOIN result ON result.n = every.n
LEFT JOIN progress ON progress.n = every.n;
