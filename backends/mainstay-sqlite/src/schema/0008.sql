-- How long a job's unique key is held, in milliseconds; nothing: until the job has finished.
ALTER TABLE body ADD COLUMN unique_for_ms INTEGER;
