-- A commit has entries of as many cases as it has tasks. In one index by case each of them stands on a page of its own
-- once there are many, and all these pages are written anew. So there is an index for every 4,096 entries, within this
-- one: new entries go to the last, which is small, and who looks for a case looks into each.
DROP INDEX audit_entries_case;
CREATE INDEX audit_entries_case ON audit_entries (position >> 12, case_id) WHERE case_id IS NOT NULL;
