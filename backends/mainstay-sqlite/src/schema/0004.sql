-- What a job was enqueued to wait for: ids of 16 bytes each, and what a dead one among them means
-- (0 wait, 1 cancel, 2 run).
ALTER TABLE body ADD COLUMN waits_for BLOB;
ALTER TABLE body ADD COLUMN after_failure INTEGER;

-- What jobs still wait for.
CREATE TABLE edge (
  waiter BLOB NOT NULL, subject BLOB NOT NULL, failure INTEGER NOT NULL, PRIMARY KEY (waiter, subject)
) WITHOUT ROWID;

-- Jobs that have ended, and not all that wait for them have been told. how: 0 completed, 1 dead, 2 gone.
CREATE TABLE ended (id BLOB NOT NULL, how INTEGER NOT NULL, PRIMARY KEY (id, how)) WITHOUT ROWID;
