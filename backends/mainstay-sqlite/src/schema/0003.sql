-- Grants of locks. mode: 0 exclusive, 1 shared, 2 semaphore of so many permits. until: on the store's clock; nothing:
-- handed to a waiter. ms: the last granted time. ticket: the 32 bytes by which an acquire that comes again is known.
CREATE TABLE lock_grant (
  token INTEGER PRIMARY KEY, name TEXT NOT NULL, nonce INTEGER NOT NULL, owner TEXT NOT NULL,
  mode INTEGER NOT NULL, permits INTEGER NOT NULL, until INTEGER, acquired_at INTEGER NOT NULL,
  ttl_ms INTEGER NOT NULL, ms INTEGER NOT NULL, delay_ms INTEGER NOT NULL, ticket BLOB
);

-- Waiters that keep their place, in the order of the line.
CREATE TABLE lock_waiter (
  place INTEGER PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, mode INTEGER NOT NULL, permits INTEGER NOT NULL,
  ttl_ms INTEGER NOT NULL, delay_ms INTEGER NOT NULL, ticket BLOB NOT NULL, since INTEGER NOT NULL
);
