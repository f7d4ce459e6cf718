//! The event log: how events get their position, and reading it.
//!
//! A number drawn from a sequence is visible when its transaction commits, which is not the order of the numbers: a
//! reader that pages by number would pass by an event that commits late. So transactions write events without a
//! position (`save::log` into `arrivals`), and the first reader gives committed ones their numbers: under an
//! advisory lock that is held until that is committed too. A position is thus never seen before a smaller one.
//!
//! The alternatives: a lock that each writer holds until it has committed makes all jobs wait for one disk sync after
//! the other; reading only below the oldest running transaction hides what the reader itself has just written for as
//! long as anybody, in any database of the server, has a transaction open. Here writers wait for nobody, and an
//! event costs a second write, made by the hundred.

use super::connection::Database;
use super::error::Fault;
use super::outbox::limit;
use super::rows;
use splitreel_backend::StoreError;
use splitreel_core::JobId;
use splitreel_core::event::Event;
use sqlx::PgConnection;

/// Advisory lock of the reader that numbers events.
const NUMBERING: i64 = 0x7370_6c69_7472_0001;
/// Events numbered in one transaction.
const CHUNK: i64 = 10_000;
/// Transactions of one call: a log that nobody has read for weeks is caught up with over several reads.
const ROUNDS: u32 = 100;

// What `forget` is just deleting is skipped.
const NUMBER: &str = "WITH taken AS (
         DELETE FROM arrivals WHERE id IN (SELECT id FROM arrivals ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING id, job, at_ms, what)
     INSERT INTO events (job, at_ms, what) SELECT job, at_ms, what FROM taken ORDER BY id";

/// Gives events that were committed by now their positions.
pub(super) async fn number(database: &Database) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        if !database.plain(|c| Box::pin(has_arrivals(c))).await? {
            break;
        }
        let num_moved = database.write(|c| Box::pin(move_some(c))).await?;
        if num_moved < CHUNK.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

async fn has_arrivals(c: &mut PgConnection) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM arrivals)").fetch_one(c).await?)
}

async fn move_some(c: &mut PgConnection) -> Result<u64, Fault> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(NUMBERING).execute(&mut *c).await?;
    Ok(sqlx::query(NUMBER).bind(CHUNK).execute(c).await?.rows_affected())
}

pub(super) async fn read(
    database: &Database,
    job: Option<JobId>,
    after_seq: i64,
    max: usize,
) -> Result<Vec<Event>, StoreError> {
    number(database).await?;
    database.plain(move |c| Box::pin(select(c, job, after_seq, max))).await
}

async fn select(c: &mut PgConnection, job: Option<JobId>, after_seq: i64, max: usize) -> Result<Vec<Event>, Fault> {
    let query = match job {
        Some(job) => {
            sqlx::query("SELECT seq, job, at_ms, what FROM events WHERE seq > $1 AND job = $3 ORDER BY seq LIMIT $2")
                .bind(after_seq)
                .bind(limit(max))
                .bind(job.0)
        }
        None => sqlx::query("SELECT seq, job, at_ms, what FROM events WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(after_seq)
            .bind(limit(max)),
    };
    let found = query.fetch_all(c).await?;
    Ok(found.iter().map(rows::event).collect::<Result<_, _>>()?)
}
