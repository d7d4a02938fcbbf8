-- The last group of the journal that is in the tables, and the epoch its records carry.
ALTER TABLE meta ADD COLUMN lsn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
