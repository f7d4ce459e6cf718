-- Pausing, priorities, listing by tenant, and records. Rows of before get what they had without saying so.

ALTER TABLE jobs ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1));
-- Also in the request: here for dispatch, which looks at every open job.
ALTER TABLE jobs ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high'));

CREATE INDEX jobs_by_tenant ON jobs (tenant, created_ms, id);

-- Documents beside the jobs: tokens, profiles, uploads and the like. Text is compared byte by byte.
CREATE TABLE records (
    kind       TEXT    NOT NULL,
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    doc        TEXT    NOT NULL,
    due_ms     INTEGER,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX records_due ON records (kind, due_ms, tenant, id) WHERE due_ms IS NOT NULL;
