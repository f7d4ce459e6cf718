-- Dispatch shares out workers and assemblers apart, and finds the jobs that wait for either without reading the others'.
-- A job is assembling once its assemble task exists; all its other tasks are done then, for good.

ALTER TABLE jobs ADD COLUMN is_assembling boolean NOT NULL DEFAULT false;

UPDATE jobs SET is_assembling = true
WHERE EXISTS (SELECT FROM tasks WHERE tasks.job = jobs.id AND tasks.kind = 'assemble');

DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (is_assembling, tenant, priority, created_ms, id) WHERE ended_ms IS NULL AND NOT is_paused;
