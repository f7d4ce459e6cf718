-- Dispatch shares out workers and assemblers apart, and finds the jobs that wait for either without reading the others'.
-- A job is assembling once its assemble task exists; all its other tasks are done then, for good. Where a coordinator
-- that does not know the column turns a job to assembly, the job goes on among those that wait for workers.

ALTER TABLE jobs ADD COLUMN is_assembling boolean NOT NULL DEFAULT false;

UPDATE jobs SET is_assembling = true
WHERE state <> 'published' AND EXISTS (SELECT FROM tasks WHERE tasks.job = jobs.id AND tasks.kind = 'assemble');

-- Beside `jobs_open`, which coordinators of before still use.
CREATE INDEX jobs_of_queue ON jobs (is_assembling, tenant, priority, created_ms, id)
    WHERE ended_ms IS NULL AND NOT is_paused;
