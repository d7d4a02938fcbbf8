-- What was in them is in event_block and event_ids.
DROP TABLE event;
DROP TABLE event_dedup;
