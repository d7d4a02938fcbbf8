-- Events, many a row. A block has events of one topic that follow one another; first and last are numbers of the log.
-- sheet: where the piece of the log begins that was written at once; blocks of different pieces do not overlap, those
-- of one piece lie side by side. heads: all but what happened; bodies: what happened. Both have checksums.
CREATE TABLE event_block (
  first INTEGER PRIMARY KEY, sheet INTEGER NOT NULL, topic INTEGER NOT NULL, last INTEGER NOT NULL,
  count INTEGER NOT NULL, heads BLOB NOT NULL, bodies BLOB NOT NULL
);
CREATE INDEX event_block_topic ON event_block (topic, first);
CREATE INDEX topic_name ON topic (name);

-- Ids that publishers chose in the last two minutes, many a row. Those up to ids_forgotten do not count any more.
CREATE TABLE event_ids (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, ids BLOB NOT NULL);
ALTER TABLE event_log ADD COLUMN ids_forgotten INTEGER NOT NULL DEFAULT 0;

DROP VIEW events;
