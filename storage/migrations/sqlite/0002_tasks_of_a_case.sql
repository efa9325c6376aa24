-- Tasks of a case are found by their entries in the audit: one index less for each new task to be put into, at a place
-- that is anywhere in it.
DROP INDEX tasks_case;
