//! Named readiness checks: run side by side, each under a time-out, the answer kept for a moment so that many probes
//! cost as much as one. Knows nothing of what it checks.

use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Answer = Result<(), String>;
type Run = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// How long one check may take.
const TIMEOUT: Duration = Duration::from_millis(800);
/// How long a report counts as current.
const FRESH: Duration = Duration::from_secs(1);

/// The checks of a process.
pub struct Checks {
    checks: Vec<Check>,
    timeout: Duration,
    fresh: Duration,
    last: Mutex<Option<(Instant, Arc<CheckReport>)>>,
}

struct Check {
    name: &'static str,
    run: Run,
    /// A run that had no answer in time. It goes on, because a database call must not be cut off in the middle, and
    /// no second one is started beside it.
    pending: Mutex<Option<JoinHandle<Answer>>>,
}

/// What all checks said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Every check passed.
    pub is_ok: bool,
    /// One line per check, in the order in which they were added.
    pub checks: Vec<CheckLine>,
}

/// What one check said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckLine {
    /// Its name.
    pub name: &'static str,
    /// It passed.
    pub is_ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Default for Checks {
    fn default() -> Self {
        Checks { checks: Vec::new(), timeout: TIMEOUT, fresh: FRESH, last: Mutex::new(None) }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|check| check.name)).finish()
    }
}

impl Checks {
    /// Adds a check. Its error is shown on the ops port: it must hold no secret.
    #[must_use]
    pub fn with<F, E>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let run: Run = Box::new(move || {
            let answer = check();
            Box::pin(async move { answer.await.map_err(|error| error.to_string()) })
        });
        self.checks.push(Check { name, run, pending: Mutex::new(None) });
        self
    }

    /// How long one check may take, instead of 800 ms.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a report counts as current, instead of 1 s.
    #[must_use]
    pub const fn fresh_for(mut self, fresh: Duration) -> Self {
        self.fresh = fresh;
        self
    }

    /// The report: a current one, or one made now. Callers that ask meanwhile wait for the same one.
    pub async fn report(&self) -> Arc<CheckReport> {
        let mut last = self.last.lock().await;
        if let Some((made, report)) = last.as_ref()
            && made.elapsed() < self.fresh
        {
            return Arc::clone(report);
        }
        let report = Arc::new(self.run().await);
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    async fn run(&self) -> CheckReport {
        let deadline = Instant::now() + self.timeout;
        let mut started = Vec::with_capacity(self.checks.len());
        for check in &self.checks {
            let mut pending = check.pending.lock().await;
            started.push(pending.take().unwrap_or_else(|| tokio::spawn((check.run)())));
        }
        let mut lines = Vec::with_capacity(started.len());
        for (check, mut running) in self.checks.iter().zip(started) {
            let error = match tokio::time::timeout_at(deadline, &mut running).await {
                Ok(Ok(answer)) => answer.err(),
                Ok(Err(broken)) => Some(broken.to_string()),
                Err(_) => {
                    *check.pending.lock().await = Some(running);
                    Some(format!("no answer within {} ms", self.timeout.as_millis()))
                }
            };
            lines.push(CheckLine { name: check.name, is_ok: error.is_none(), error });
        }
        CheckReport { is_ok: lines.iter().all(|line| line.is_ok), checks: lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counting(count: &Arc<AtomicU32>) -> impl Fn() -> std::future::Ready<Result<(), &'static str>> + use<> {
        let count = Arc::clone(count);
        move || {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn many_who_ask_cost_one_run() {
        let count = Arc::new(AtomicU32::new(0));
        let checks = Arc::new(Checks::default().with("store", counting(&count)).fresh_for(Duration::from_secs(3_600)));
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let checks = Arc::clone(&checks);
                tokio::spawn(async move { checks.report().await.is_ok })
            })
            .collect();
        for asked in asking {
            assert!(asked.await.unwrap());
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_old_report_is_made_again() {
        let count = Arc::new(AtomicU32::new(0));
        let checks = Checks::default().with("store", counting(&count)).fresh_for(Duration::ZERO);
        checks.report().await;
        checks.report().await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failing_a_silent_and_a_broken_check_are_told_apart() {
        let checks = Checks::default()
            .with("good", || std::future::ready(Ok::<(), &str>(())))
            .with("bad", || std::future::ready(Err("no route to host")))
            .with("silent", std::future::pending::<Result<(), &str>>)
            .with("broken", || async { if true { panic!("oh") } else { Ok::<(), &str>(()) } })
            .timeout(Duration::from_millis(20));
        let report = checks.report().await;
        assert!(!report.is_ok);
        let said: Vec<_> = report.checks.iter().map(|line| (line.name, line.is_ok)).collect();
        assert_eq!(said, [("good", true), ("bad", false), ("silent", false), ("broken", false)]);
        let error = |at: usize| report.checks[at].error.clone().unwrap_or_default();
        assert_eq!(error(1), "no route to host");
        assert_eq!(error(2), "no answer within 20 ms");
        assert!(error(3).contains("panicked"), "{}", error(3));
    }

    #[tokio::test]
    async fn a_silent_check_is_not_started_again_and_may_recover() {
        let count = Arc::new(AtomicU32::new(0));
        let release = Arc::new(tokio::sync::Semaphore::new(0));
        let checks = {
            let (count, release) = (Arc::clone(&count), Arc::clone(&release));
            Checks::default().fresh_for(Duration::ZERO).timeout(Duration::from_millis(10)).with("slow", move || {
                count.fetch_add(1, Ordering::Relaxed);
                let release = Arc::clone(&release);
                async move { release.acquire().await.map(|permit| permit.forget()) }
            })
        };
        assert!(!checks.report().await.is_ok);
        assert!(!checks.report().await.is_ok);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        release.add_permits(1);
        let checks = checks.timeout(Duration::from_secs(10));
        assert!(checks.report().await.is_ok);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
