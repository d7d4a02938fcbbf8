-- Events. The log is numbered without gaps; last_seq is the last number given, whether or not that event is still there.
CREATE TABLE event_log (one INTEGER PRIMARY KEY CHECK (one = 1), last_seq INTEGER NOT NULL);
INSERT INTO event_log VALUES (1, 0);

-- Retention has removed a topic's events up to removed_up_to.
CREATE TABLE topic (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, dropped INTEGER NOT NULL, removed_up_to INTEGER NOT NULL, config TEXT NOT NULL
);

-- ord and total number the events and the bytes of a topic. key: the hash of the partition key. What is long comes last.
-- data: text is JSON, a blob is anything else.
CREATE TABLE event (
  seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, size INTEGER NOT NULL, ord INTEGER NOT NULL, total INTEGER NOT NULL,
  at INTEGER NOT NULL, key INTEGER NOT NULL,
  id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL, subject TEXT, time TEXT, partitionkey TEXT,
  datacontenttype TEXT, dataschema TEXT, extensions TEXT, data
);
CREATE INDEX event_topic ON event (topic);

-- Ids that publishers chose in the last two minutes.
CREATE TABLE event_dedup (seq INTEGER PRIMARY KEY, topic INTEGER NOT NULL, at INTEGER NOT NULL, key BLOB NOT NULL);

CREATE TABLE event_group (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, config TEXT NOT NULL,
  cursor INTEGER NOT NULL, skipped INTEGER NOT NULL, redelivered INTEGER NOT NULL
);

-- What a group has taken up and not settled. state: 0 waits until due, 1 waits for another of its key, 2 handed out.
-- dead: the dead letter it comes from.
CREATE TABLE delivery (
  grp INTEGER NOT NULL, seq INTEGER NOT NULL, topic INTEGER NOT NULL, size INTEGER NOT NULL, attempt INTEGER NOT NULL,
  key INTEGER NOT NULL, at INTEGER NOT NULL, dead INTEGER, error TEXT, state INTEGER NOT NULL,
  due INTEGER, token INTEGER, nonce INTEGER, lease_until INTEGER, lease_ms INTEGER, consumer TEXT,
  PRIMARY KEY (grp, seq)
) WITHOUT ROWID;

-- A ring of the newest 1,000 settled leases of a group: slot = n % 1000.
CREATE TABLE settled_delivery (
  grp INTEGER NOT NULL, slot INTEGER NOT NULL, n INTEGER NOT NULL, token INTEGER NOT NULL, nonce INTEGER NOT NULL,
  verb INTEGER NOT NULL, PRIMARY KEY (grp, slot)
) WITHOUT ROWID;

-- Dead letters of groups, with the event. revived: it is being delivered again.
CREATE TABLE dead_event (
  number INTEGER PRIMARY KEY, grp INTEGER NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL, size INTEGER NOT NULL,
  key INTEGER NOT NULL, at INTEGER NOT NULL, died_at INTEGER NOT NULL, revived INTEGER NOT NULL,
  attempts INTEGER NOT NULL, reason INTEGER NOT NULL, error TEXT,
  id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL, subject TEXT, time TEXT, partitionkey TEXT,
  datacontenttype TEXT, dataschema TEXT, extensions TEXT, data
);
CREATE INDEX dead_event_group ON dead_event (grp);

-- For people with the sqlite3 shell. Nothing in the program reads it.
CREATE VIEW events AS
SELECT event.seq, topic.name AS topic, strftime('%Y-%m-%dT%H:%M:%fZ', event.at / 1000.0, 'unixepoch') AS published_at,
  event.id, event.source, event.type, event.subject, event.partitionkey, event.data
FROM event JOIN topic ON topic.id = event.topic
WHERE NOT topic.dropped AND event.seq > topic.removed_up_to;
