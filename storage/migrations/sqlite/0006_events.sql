-- Entries of an event, in the order of their writing, which the rowid behind it keeps. There are few events, so what is
-- written goes to the end of a few places in it, whatever the trail's length.
CREATE INDEX audit_entries_event ON audit_entries (event);
