//! Connections: how they are made, and that every use-case leaves them clean. No SQL about jobs lives here.
//!
//! A use-case runs in a task of its own that nobody cancels: a caller that goes away leaves no transaction half open.
//! A connection goes back to the pool only after its transaction was seen to end. In any other case (error while
//! ending it, time-out, panic) the connection is dropped, which closes it, and the server rolls back: a pool hook
//! could not do that, because sqlx does not know of a transaction whose `BEGIN` was never answered.

use super::config::{PgConfig, PgOpenError};
use super::error::{CutOff, Fault, TimedOut};
use splitreel_backend::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

/// How often a transaction that stood in the way of another is tried again.
const TRIES: u32 = 5;
/// A connection that was idle for longer is asked for a sign of life before it is used.
const IDLE: Duration = Duration::from_millis(500);

/// The future of one use-case on a connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

/// The pool, and how long a use-case may take.
#[derive(Clone)]
pub(super) struct Database {
    pool: PgPool,
    limit: Duration,
    bulk: Duration,
}

pub(super) fn parse(url: &str) -> Result<PgConnectOptions, PgOpenError> {
    // sqlx takes any scheme.
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(PgOpenError::Url(sqlx::Error::Configuration("it does not begin with postgres://".into())));
    }
    PgConnectOptions::from_str(url).map_err(PgOpenError::Url)
}

fn options(url: &str, config: &PgConfig) -> Result<PgConnectOptions, PgOpenError> {
    let timeouts = [
        ("statement_timeout", config.statement_timeout_ms),
        ("idle_in_transaction_session_timeout", config.idle_in_transaction_timeout_ms),
    ];
    // Every statement here is made for an index. The statistics of tables that were empty a minute ago, and the
    // plans cached on them, would say otherwise just when a job of a million tasks has arrived.
    let planner = ["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_sort", "jit"];
    Ok(parse(url)?
        .application_name("splitreel")
        .options(timeouts)
        .options(planner.map(|name| (name, "off")))
        .options([("default_transaction_isolation", "read committed")]))
}

impl Database {
    /// Makes a pool; connects when first used.
    pub(super) fn connect(url: &str, config: &PgConfig) -> Result<Self, PgOpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.connect_timeout())
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options(url, config)?);
        let limit = Duration::from_millis(config.statement_timeout_ms.saturating_mul(2));
        Ok(Database { pool, limit, bulk: Duration::from_millis(config.bulk_timeout_ms) })
    }

    /// Runs a use-case as one transaction: committed when it answers, rolled back when it fails.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        let (pool, limit) = (self.pool.clone(), self.limit);
        spawned(async move { tried(&pool, limit, None, &work).await }).await
    }

    /// As [`Database::write`], for what reads or writes every task of a job.
    pub(super) async fn bulk<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        let (pool, limit) = (self.pool.clone(), self.bulk);
        spawned(async move { tried(&pool, limit, Some(limit), &work).await }).await
    }

    /// Runs statements without a transaction around them: each sees what was committed when it began, and is itself
    /// committed when it ends.
    pub(super) async fn plain<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
    {
        let (pool, limit) = (self.pool.clone(), self.limit);
        spawned(async move {
            let mut held = Held::acquire(&pool).await?;
            let answer = within(limit, work(held.connection()?)).await?;
            held.give_back();
            Ok(answer)
        })
        .await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// A connection that is closed unless it is given back.
struct Held(Option<PoolConnection<Postgres>>);

impl Held {
    async fn acquire(pool: &PgPool) -> Result<Self, Fault> {
        Ok(Held(Some(pool.acquire().await?)))
    }

    fn connection(&mut self) -> Result<&mut PgConnection, Fault> {
        match &mut self.0 {
            Some(connection) => Ok(connection),
            None => Err(StoreError::Unavailable(Box::new(CutOff)).into()),
        }
    }

    fn give_back(mut self) {
        // Dropping it returns it to the pool.
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::Unavailable(Box::new(TimedOut { limit_ms: limit.as_millis() })).into()),
    }
}

async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome.map_err(StoreError::from),
        Err(stopped) => Err(StoreError::Unavailable(Box::new(stopped))),
    }
}

/// One transaction, again when another one stood in its way.
async fn tried<T, F>(pool: &PgPool, limit: Duration, statement: Option<Duration>, work: &F) -> Result<T, Fault>
where
    F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T>,
{
    let mut tries = 1;
    loop {
        match once(pool, limit, statement, work).await {
            Err(fault) if fault.is_in_the_way() && tries < TRIES => {
                tracing::debug!(?fault, tries, "transaction rolled back by the server, trying again");
                tokio::time::sleep(Duration::from_millis(5 << tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn once<T, F>(pool: &PgPool, limit: Duration, statement: Option<Duration>, work: &F) -> Result<T, Fault>
where
    F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T>,
{
    let mut held = Held::acquire(pool).await?;
    let outcome = within(limit, async {
        let mut transaction = held.connection()?.begin().await?;
        if let Some(longer) = statement {
            sqlx::query("SELECT set_config('statement_timeout', $1, true)")
                .bind(longer.as_millis().to_string())
                .execute(&mut *transaction)
                .await?;
        }
        // The inner result is the use-case's; the outer one says whether the transaction has ended.
        match work(&mut transaction).await {
            Ok(answer) => {
                transaction.commit().await?;
                Ok(Ok(answer))
            }
            Err(fault) => Ok(match transaction.rollback().await {
                Ok(()) => Err(fault),
                // The first error is the cause.
                Err(_) => return Err(fault),
            }),
        }
    })
    .await?;
    held.give_back();
    outcome
}

pub(super) async fn ping(c: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query("SELECT 1").execute(c).await?;
    Ok(())
}
