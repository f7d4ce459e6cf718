-- A second attempt beside one that takes too long, and how fast a job's segments were so far.

ALTER TABLE jobs ADD COLUMN pace_cost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN pace_wall_ms INTEGER NOT NULL DEFAULT 0;
-- The earlier attempt with its lease, as JSON, while it runs beside the current one.
ALTER TABLE tasks ADD COLUMN elder TEXT CHECK (elder IS NULL OR state IN ('ready', 'leased'));

CREATE INDEX tasks_beside ON tasks (job, number) WHERE elder IS NOT NULL;
