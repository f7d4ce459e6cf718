-- Planning a job again: how the frames are listed, why a new plan was called for, and one assemble task per plan.

-- Of a job of before: as its request says. That its probe decoded the source by itself is not known any more, which may
-- cost one decode. A coordinator that does not know the column leaves false.
ALTER TABLE jobs
    ADD COLUMN deep_probe boolean NOT NULL DEFAULT false,
    ADD COLUMN replanned text;
UPDATE jobs SET deep_probe = true WHERE ended_ms IS NULL AND request::jsonb -> 'deep_probe' = 'true'::jsonb;

DROP INDEX tasks_assemble;
CREATE UNIQUE INDEX tasks_assemble ON tasks (job, generation) WHERE kind = 'assemble';
