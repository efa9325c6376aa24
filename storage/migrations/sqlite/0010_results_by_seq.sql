-- A result is found by the number of its task, as a row: one by its id was a page more to be written with each commit, that of its
-- place in an index. A result whose task is not there any more is not taken over: nobody could read it, and it had to go with the task.
ALTER TABLE results RENAME TO older_results;
CREATE TABLE results (
    seq           INTEGER PRIMARY KEY REFERENCES tasks (seq),
    attempt       INTEGER NOT NULL,
    agent_id      TEXT NOT NULL,
    output        BLOB NOT NULL,
    model_version TEXT,
    finished_at   REAL NOT NULL
) STRICT;
-- In the order of the tasks, which nothing has to be sorted for.
INSERT INTO results (seq, attempt, agent_id, output, model_version, finished_at)
SELECT tasks.seq, older.attempt, older.agent_id, older.output, older.model_version, older.finished_at
FROM tasks CROSS JOIN older_results AS older USING (task_id) ORDER BY tasks.seq;
DROP TABLE older_results;
