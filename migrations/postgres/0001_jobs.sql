-- Jobs, tasks, outbox, events and records of the cluster's job store. Postgres 15 or later.
--
-- Times are milliseconds since the Unix epoch. States and kinds are the words of the domain. u32 and u64 values are
-- kept bit for bit in signed integers. Documents are text: what is read back is what was written, byte for byte.
--
-- There are no foreign keys: a check per row would cost more than the insert of a task. Instead every transaction
-- that adds rows to a job holds a lock on the job's row (see crates/backend-cluster/src/postgres/locks.rs).

CREATE TABLE jobs (
    id              uuid     NOT NULL PRIMARY KEY,
    tenant          text     NOT NULL COLLATE "C",
    idempotency_key text     NOT NULL COLLATE "C",
    priority        smallint NOT NULL,
    state           text     NOT NULL
        CHECK (state IN ('probing', 'planning', 'running', 'published', 'failed', 'cancelled')),
    is_paused       boolean  NOT NULL,
    request         text     NOT NULL,
    remaining       integer  NOT NULL,
    generation      integer  NOT NULL,
    next_task       integer  NOT NULL,
    plan_hash       text,
    failure         text,
    created_ms      bigint   NOT NULL,
    ended_ms        bigint,
    UNIQUE (tenant, idempotency_key),
    CHECK ((ended_ms IS NOT NULL) = (state IN ('published', 'failed', 'cancelled')))
) WITH (fillfactor = 50, toast_tuple_target = 128, autovacuum_vacuum_scale_factor = 0.05);

-- Each completion rewrites the job's row: the request lives beside it, and no index says how much remains, so that
-- the new row fits on the page of the old one and touches no index.
ALTER TABLE jobs ALTER COLUMN request SET STORAGE EXTERNAL;

CREATE INDEX jobs_by_age ON jobs (created_ms, id);
CREATE INDEX jobs_by_tenant ON jobs (tenant, created_ms, id);
CREATE INDEX jobs_by_state ON jobs (state, created_ms, id);
-- Dispatch: the oldest jobs of each tenant and class.
CREATE INDEX jobs_open ON jobs (tenant, priority, created_ms, id) WHERE ended_ms IS NULL AND NOT is_paused;

CREATE TABLE plans (
    job  uuid NOT NULL PRIMARY KEY,
    plan text NOT NULL
);

-- A task of a failed or cancelled job that was not under way keeps its state here and is read as cancelled: ending a
-- job of a million tasks touches only those in flight.
CREATE TABLE tasks (
    job                 uuid    NOT NULL,
    number              integer NOT NULL,
    generation          integer NOT NULL,
    kind                text    NOT NULL CHECK (kind IN ('probe', 'whole', 'segment', 'audio', 'assemble')),
    idx                 integer NOT NULL,
    cost                bigint  NOT NULL,
    state               text    NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'done', 'failed', 'cancelled')),
    attempt             integer NOT NULL,
    media_failures      integer NOT NULL,
    infra_failures      integer NOT NULL,
    not_before_ms       bigint  NOT NULL,
    lease_id            uuid,
    lease_worker        text,
    lease_expires_ms    bigint,
    lease_claimed_ms    bigint,
    lease_progressed_ms bigint,
    progress_per_mille  integer,
    progress_speed      integer,
    progress_frames     bigint,
    done_by             uuid,
    result              text,
    failure             text,
    failed_on           text,
    PRIMARY KEY (job, number),
    CHECK ((lease_id IS NOT NULL) = (state = 'leased')),
    CHECK ((result IS NOT NULL) = (state = 'done')),
    CHECK ((done_by IS NOT NULL) = (state = 'done'))
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);

-- At most one assemble task per job.
CREATE UNIQUE INDEX tasks_assemble ON tasks (job) WHERE kind = 'assemble';
-- Dispatch walks ready tasks in order and looks at the time in the index. It asks for the order of number::bigint,
-- which only this index has: the planner would take the primary key for the same, and walk over all that is done.
CREATE INDEX tasks_ready ON tasks (job, (number::bigint), not_before_ms) WHERE state = 'ready';
-- Everything in flight. It does not say when a lease expires: a renewal then touches no index.
CREATE INDEX tasks_leased ON tasks (job, number) WHERE state = 'leased';

CREATE TABLE outbox (
    seq        bigint  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job        uuid    NOT NULL,
    number     integer NOT NULL,
    attempt    integer NOT NULL,
    kind       text    NOT NULL,
    created_ms bigint  NOT NULL,
    sent_ms    bigint,
    UNIQUE (job, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_ms IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_ms) WHERE sent_ms IS NOT NULL;

-- Events as they are written, in any number of transactions at a time. Readers never see them here.
CREATE TABLE arrivals (
    id    bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job   uuid   NOT NULL,
    at_ms bigint NOT NULL,
    what  text   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX arrivals_of_job ON arrivals (job);

-- Events with their position in the log: committed arrivals, moved here by one transaction at a time.
CREATE TABLE events (
    seq   bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job   uuid   NOT NULL,
    at_ms bigint NOT NULL,
    what  text   NOT NULL
);

CREATE INDEX events_of_job ON events (job, seq);

-- Tenant and id are the UTF-8 bytes of the strings: every character fits, U+0000 too, and they sort by byte.
CREATE TABLE records (
    kind       text   NOT NULL COLLATE "C",
    tenant     bytea  NOT NULL,
    id         bytea  NOT NULL,
    version    bigint NOT NULL,
    doc        text   NOT NULL,
    due_ms     bigint,
    updated_ms bigint NOT NULL,
    PRIMARY KEY (kind, tenant, id)
) WITH (fillfactor = 80);

CREATE INDEX records_due ON records (kind, due_ms, tenant, id) WHERE due_ms IS NOT NULL;
