-- Planning a job again: how the frames are listed, why a new plan was called for, and one assemble task per plan.

-- Of a job of before: as its request says. That its probe decoded the source by itself is not known any more, which may
-- cost one decode.
ALTER TABLE jobs ADD COLUMN deep_probe INTEGER NOT NULL DEFAULT 0 CHECK (deep_probe IN (0, 1));
UPDATE jobs SET deep_probe = 1 WHERE request ->> '$.deep_probe' = 1;
ALTER TABLE jobs ADD COLUMN replanned TEXT;

DROP INDEX tasks_assemble;
CREATE UNIQUE INDEX tasks_assemble ON tasks (job, generation) WHERE kind = 'assemble';
