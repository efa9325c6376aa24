-- By event, by time and by case entries are found by part of the trail: indexes of all entries were pages to be written with
-- each commit. A part is noted once there are so many entries behind the last one; those that no part has yet are few, and looked
-- through. See storage/sqlite/parts.py, which notes the parts of an older trail at the next opening.
DROP INDEX audit_entries_event;
DROP INDEX audit_entries_time;
DROP INDEX audit_entries_case;

CREATE TABLE audit_parts (
    last   INTEGER PRIMARY KEY,
    first  INTEGER NOT NULL,
    latest TEXT NOT NULL
) STRICT;

-- Within a part: of each event the first and the last entry among some that stand together.
CREATE TABLE audit_runs (
    last  INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE INDEX audit_runs_event ON audit_runs (event);

-- By part first: the cases of a commit stand anywhere among all cases, those of a part are written side by side.
CREATE TABLE audit_cases (
    part     INTEGER NOT NULL,
    case_id  TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (part, case_id, position)
) STRICT, WITHOUT ROWID;

-- What entries are found by stays as long as they do.
CREATE TRIGGER audit_parts_stay BEFORE DELETE ON audit_parts
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE position BETWEEN OLD.first AND OLD.last)
BEGIN SELECT RAISE(ABORT, 'parts of the audit stay as long as their entries'); END;
CREATE TRIGGER audit_runs_stay BEFORE DELETE ON audit_runs
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE position BETWEEN OLD.first AND OLD.last AND event = OLD.event)
BEGIN SELECT RAISE(ABORT, 'parts of the audit stay as long as their entries'); END;
CREATE TRIGGER audit_cases_stay BEFORE DELETE ON audit_cases
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE position = OLD.position)
BEGIN SELECT RAISE(ABORT, 'parts of the audit stay as long as their entries'); END;
CREATE TRIGGER audit_parts_are_final BEFORE UPDATE ON audit_parts
BEGIN SELECT RAISE(ABORT, 'parts of the audit never change'); END;
CREATE TRIGGER audit_runs_are_final BEFORE UPDATE ON audit_runs
BEGIN SELECT RAISE(ABORT, 'parts of the audit never change'); END;
CREATE TRIGGER audit_cases_are_final BEFORE UPDATE ON audit_cases
BEGIN SELECT RAISE(ABORT, 'parts of the audit never change'); END;
CREATE TRIGGER audit_parts_go_forward BEFORE INSERT ON audit_parts
WHEN NEW.first <= (SELECT max(last) FROM audit_parts) OR NEW.last > (SELECT coalesce(max(position), 0) FROM audit_entries)
BEGIN SELECT RAISE(ABORT, 'parts of the audit never change'); END;
CREATE TRIGGER audit_runs_are_not_replaced BEFORE INSERT ON audit_runs
WHEN EXISTS (SELECT 1 FROM audit_runs WHERE last = NEW.last)
BEGIN SELECT RAISE(ABORT, 'parts of the audit never change'); END;
