-- A second attempt beside one that takes too long, and how fast a job's segments were so far.

ALTER TABLE jobs
    ADD COLUMN pace_cost bigint NOT NULL DEFAULT 0,
    ADD COLUMN pace_wall_ms bigint NOT NULL DEFAULT 0;

-- The earlier attempt with its lease, as JSON, while it runs beside the current one. There are few.
ALTER TABLE tasks ADD COLUMN elder text;

CREATE INDEX tasks_beside ON tasks (job, number) WHERE elder IS NOT NULL;
