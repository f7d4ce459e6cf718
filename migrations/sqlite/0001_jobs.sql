-- Jobs, tasks, outbox and events of the embedded job store.
--
-- Times are milliseconds since the Unix epoch. Ids are hyphenated lower-case UUIDs, so that text order is id
-- order. States and kinds are the words of the domain. u64 values are kept bit for bit in signed integers.

CREATE TABLE jobs (
    id              TEXT    NOT NULL PRIMARY KEY,
    tenant          TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('probing', 'planning', 'running', 'published', 'failed', 'cancelled')),
    request         TEXT    NOT NULL,
    remaining       INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    next_task       INTEGER NOT NULL,
    plan_hash       TEXT,
    failure         TEXT,
    created_ms      INTEGER NOT NULL,
    ended_ms        INTEGER,
    UNIQUE (tenant, idempotency_key),
    CHECK ((ended_ms IS NOT NULL) = (state IN ('published', 'failed', 'cancelled')))
) STRICT;

CREATE INDEX jobs_by_age ON jobs (created_ms, id);
-- Dispatch looks at open jobs only. Declared unique (ids are) so that SQLite knows that tasks read job by job are in order.
CREATE UNIQUE INDEX jobs_open ON jobs (created_ms, id) WHERE ended_ms IS NULL;

-- Apart from jobs: a plan can be megabytes, and each change of a row rewrites the whole row.
CREATE TABLE plans (
    job  TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    plan TEXT NOT NULL
) STRICT;

CREATE TABLE tasks (
    job                 TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number              INTEGER NOT NULL,
    generation          INTEGER NOT NULL,
    kind                TEXT    NOT NULL CHECK (kind IN ('probe', 'whole', 'segment', 'audio', 'assemble')),
    idx                 INTEGER NOT NULL,
    cost                INTEGER NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'done', 'failed', 'cancelled')),
    attempt             INTEGER NOT NULL,
    media_failures      INTEGER NOT NULL,
    infra_failures      INTEGER NOT NULL,
    not_before_ms       INTEGER NOT NULL,
    lease_id            TEXT,
    lease_worker        TEXT,
    lease_expires_ms    INTEGER,
    lease_claimed_ms    INTEGER,
    lease_progressed_ms INTEGER,
    progress_per_mille  INTEGER,
    progress_speed      INTEGER,
    progress_frames     INTEGER,
    done_by             TEXT,
    result              TEXT,
    failure             TEXT,
    failed_on           TEXT    NOT NULL,
    PRIMARY KEY (job, number),
    CHECK ((lease_id IS NOT NULL) = (state = 'leased')),
    CHECK ((result IS NOT NULL) = (state = 'done')),
    CHECK ((done_by IS NOT NULL) = (state = 'done'))
) STRICT;

-- At most one assemble task per job.
CREATE UNIQUE INDEX tasks_assemble ON tasks (job) WHERE kind = 'assemble';
-- Dispatch and reaper see only what they may act on, however many tasks are done.
CREATE INDEX tasks_ready ON tasks (job, number, not_before_ms) WHERE state = 'ready';
CREATE INDEX tasks_leased ON tasks (lease_expires_ms) WHERE state = 'leased';

CREATE TABLE outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    job        TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    sent_ms    INTEGER,
    UNIQUE (job, number),
    FOREIGN KEY (job, number) REFERENCES tasks (job, number) ON DELETE CASCADE
) STRICT;

CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_ms IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_ms) WHERE sent_ms IS NOT NULL;

CREATE TABLE events (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    job   TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at_ms INTEGER NOT NULL,
    what  TEXT    NOT NULL
) STRICT;

CREATE INDEX events_of_job ON events (job, seq);
