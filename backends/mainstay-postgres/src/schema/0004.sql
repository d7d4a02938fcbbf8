-- Each job is changed once, when it is handed out, and grows by its lease; all of a page in one transaction, often. With room
-- for that the new version stands in the same page, and the index needs no second entry.
alter table {s}.job set (fillfactor = 40);
