-- What is enqueued again and again, and how far each is. `config` is what was asked for, as JSON; the rest moves.
CREATE TABLE schedule (
  name TEXT PRIMARY KEY, config TEXT NOT NULL, revision INTEGER NOT NULL, paused INTEGER NOT NULL, next INTEGER,
  last INTEGER, last_job BLOB, fired INTEGER NOT NULL, missed INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;
