-- What a job is counted by when it is handed out.
ALTER TABLE job ADD COLUMN concurrency_key TEXT;
ALTER TABLE job ADD COLUMN fairness_key TEXT;
ALTER TABLE finished ADD COLUMN concurrency_key TEXT;
ALTER TABLE finished ADD COLUMN fairness_key TEXT;

-- What a queue with a rate or fairness remembers of what it has handed out. kind: 0 hand-outs that count for the rate
-- until per_ms after `key`, an instant on the store's clock; 1 when the next turn of the fairness key `key` begins
-- (empty: of the jobs without one); 2 the queue's virtual time (`key` is empty).
CREATE TABLE limits (
  queue INTEGER NOT NULL, kind INTEGER NOT NULL, key NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;
