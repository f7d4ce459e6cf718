//! Runs one scenario: starts the processes, lets users and misfortune act at their times, restarts what died, and ends
//! when all is quiet, when a rule was broken or when it took too long.

use super::blobs::{SharedBell, SharedBlobs};
use super::bug::{Bug, BuggyStore, FirstPlans};
use super::chaos::{Chaos, LONGEST_PAUSE_MS, Mix};
use super::gate::Lost;
use super::ledger::{Inspected, Ledger};
use super::network::{Network, OUTSIDE};
use super::process::{Process, Role, Site, coordinator_config};
use super::workload::{Order, Workload};
use super::world::{CountedIds, machine};
use super::{Outcome, Scenario, SimulationError, lock, verify};
use crate::dice::Dice;
use crate::spoil::Spoiler;
use crate::toolkit::{FakeSource, FakeToolkit};
use splitreel_backend::JobStore;
use splitreel_backend::memory::{MemoryBlobs, MemoryStore};
use splitreel_backend::store::Submitted;
use splitreel_coordinator::Coordinator;
use splitreel_core::JobId;
use splitreel_core::job::JobState;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until};

/// Every job has to end so long after the last fault.
const PATIENCE: Duration = Duration::from_secs(900);
/// After the last job has ended: long enough for a paused process to wake up and give up.
const AFTERMATH: Duration = Duration::from_millis(LONGEST_PAUSE_MS + 15_000);

/// After the last fault, when no late call can pause any more: paused jobs are resumed.
const LAST_RESUME: Duration = Duration::from_millis(LONGEST_PAUSE_MS + 30_000);
/// A source that no order is about.
const ANOTHER_SOURCE: u64 = 1_000_000;

/// Runs a scenario. `expected` are presentation hashes by source number; sources that are not in it are not compared.
pub(super) fn run(
    scenario: Scenario,
    workload: Workload,
    mix: Mix,
    expected: BTreeMap<u64, String>,
) -> Result<Outcome, SimulationError> {
    run_and_look(scenario, workload, mix, expected).map(|(outcome, _)| outcome)
}

/// [`run`], with the hashes of what was published.
pub(super) fn run_and_look(
    scenario: Scenario,
    workload: Workload,
    mix: Mix,
    expected: BTreeMap<u64, String>,
) -> Result<(Outcome, Vec<String>), SimulationError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(async move {
        let mut harness = Harness::new(scenario, workload, mix);
        harness.run().await;
        harness.finish(expected).await
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Submit(usize),
    Clash(usize),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize),
    Start(usize),
    Strike,
    Calm,
    Settled,
    End,
}

impl Action {
    fn is_users(self) -> bool {
        // Who resumes at last looks whether a job is still open.
        matches!(self, Action::Submit(_) | Action::Clash(_) | Action::Cancel(_) | Action::Pause(_) | Action::Retry(_))
    }
}

struct Harness {
    seed: u64,
    dice: Dice,
    site: Arc<Site>,
    orders: Vec<Order>,
    processes: Vec<Process>,
    agenda: BTreeMap<(Instant, u64), Action>,
    num_planned: u64,
    crashed: UnboundedReceiver<usize>,
    blobs: Arc<MemoryBlobs>,
    users: Arc<Users>,
}

/// What users know.
#[derive(Default)]
struct Users {
    num_busy: AtomicUsize,
    jobs: Mutex<BTreeMap<usize, JobId>>,
}

impl Harness {
    fn new(scenario: Scenario, workload: Workload, mix: Mix) -> Self {
        let seed = scenario.seed;
        let chaos = Arc::new(Chaos::new(seed, mix));
        let store: Arc<dyn Inspected> = match scenario.bug {
            None => Arc::new(MemoryStore::new()),
            Some(bug) => Arc::new(BuggyStore::new(bug)),
        };
        let blobs = Arc::new(MemoryBlobs::new());
        let ledger = Arc::new(Ledger::new(Arc::clone(&chaos), store, Arc::clone(&blobs)));
        let (crash, crashed) = unbounded_channel();
        let sources: Vec<FakeSource> = workload.sources().cloned().collect();
        let site = Site {
            blobs: Arc::new(SharedBlobs::new(
                Arc::clone(&blobs),
                Arc::clone(&ledger),
                Arc::clone(&chaos),
                scenario.bug == Some(Bug::UploadNotAwaited),
            )),
            bell: Arc::new(SharedBell::new(Arc::default(), Arc::clone(&chaos))),
            network: Arc::new(Network::new(Arc::clone(&chaos), Arc::clone(&ledger))),
            toolkit: Arc::new(FakeToolkit::new(sources, Arc::clone(&chaos) as Arc<_>)),
            ids: Arc::new(CountedIds::new(seed)),
            crashed: crash,
            bug: scenario.bug,
            first_plans: FirstPlans::default(),
            spoiler: scenario.bug.and_then(Bug::spoil).map(Spoiler::new),
            ledger,
            chaos,
        };
        let roles = std::iter::repeat_n(Role::Coordinator, workload.num_coordinators)
            .chain(std::iter::repeat_n(Role::Worker { slots: workload.slots }, workload.num_workers))
            .chain(std::iter::repeat_n(Role::Assembler, workload.num_assemblers));
        Harness {
            seed,
            dice: Dice::new(seed, 4),
            processes: (0..).zip(roles).map(|(slot, role)| Process::new(role, slot)).collect(),
            site: Arc::new(site),
            orders: workload.orders,
            agenda: BTreeMap::new(),
            num_planned: 0,
            crashed,
            blobs,
            users: Arc::default(),
        }
    }

    fn schedule(&mut self, after: Duration, action: Action) {
        self.num_planned += 1;
        self.agenda.insert((Instant::now() + after, self.num_planned), action);
    }

    fn plan_ahead(&mut self) {
        for slot in 0..self.processes.len() {
            self.schedule(Duration::ZERO, Action::Start(slot));
        }
        let calm_after = self.site.chaos.mix().calm_after;
        let orders: Vec<(usize, Order)> = self.orders.iter().cloned().enumerate().collect();
        for (i, order) in orders {
            order.submit_at.iter().for_each(|at| self.schedule(*at, Action::Submit(i)));
            order.clash_at.iter().for_each(|at| self.schedule(*at, Action::Clash(i)));
            if let Some((at, _)) = order.pause_at {
                self.schedule(at, Action::Pause(i));
                self.schedule(calm_after + LAST_RESUME, Action::Resume(i));
            }
            order.cancel_at.iter().for_each(|at| self.schedule(*at, Action::Cancel(i)));
            order.retry_at.iter().for_each(|at| self.schedule(*at, Action::Retry(i)));
        }
        let mix = self.site.chaos.mix().clone();
        let num_strikes = mix.strikes_per_minute * mix.calm_after.as_secs() / 60;
        let until = u64::try_from(mix.calm_after.as_millis()).unwrap_or(0);
        for _ in 0..num_strikes {
            let at = self.dice.millis(0..until);
            self.schedule(at, Action::Strike);
        }
        self.schedule(mix.calm_after, Action::Calm);
        self.schedule(mix.calm_after + PATIENCE, Action::End);
    }

    async fn run(&mut self) {
        self.plan_ahead();
        let mut is_quiet = false;
        while self.site.ledger.violation().is_none() {
            if !is_quiet && self.is_quiet() {
                is_quiet = true;
                self.site.chaos.calm_down();
                self.site.bell.let_go().await;
                self.schedule(AFTERMATH, Action::Settled);
            }
            self.regret();
            let Some((&(at, number), &action)) = self.agenda.first_key_value() else { return };
            tokio::select! {
                biased;
                Some(slot) = self.crashed.recv() => self.bury(slot),
                () = self.site.ledger.changed.notified() => {}
                () = sleep_until(at) => {
                    self.agenda.remove(&(at, number));
                    match action {
                        Action::End => return,
                        Action::Settled if self.is_quiet() => return,
                        // A retry that was under way in a paused process opened a job again.
                        Action::Settled => is_quiet = false,
                        _ => self.act(action),
                    }
                }
            }
        }
    }

    /// No job is open, and nobody will open one.
    fn is_quiet(&self) -> bool {
        !self.site.ledger.has_open_job()
            && self.users.num_busy.load(Ordering::Relaxed) == 0
            && !self.agenda.values().any(|a| a.is_users())
    }

    /// Some users cancel at the last moment: while their job is assembled.
    fn regret(&mut self) {
        let waiting: Vec<usize> = (0..).zip(&self.orders).filter(|(_, o)| o.cancels_assembly).map(|(i, _)| i).collect();
        for i in waiting {
            let job = lock(&self.users.jobs).get(&i).copied();
            if !job.is_some_and(|job| self.site.ledger.is_assembling(job)) {
                continue;
            }
            if let Some(order) = self.orders.get_mut(i) {
                order.cancels_assembly = false;
            }
            let longest = self.dice.pick(&[1, 5, 30, 500]);
            let after = self.dice.millis(0..longest);
            self.schedule(after, Action::Cancel(i));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Submit(i)
            | Action::Clash(i)
            | Action::Cancel(i)
            | Action::Pause(i)
            | Action::Resume(i)
            | Action::Retry(i) => self.user(i, action),
            Action::Start(slot) => {
                if let Some(process) = self.processes.get_mut(slot) {
                    process.start(&self.site);
                }
            }
            Action::Strike => self.strike(),
            Action::Calm => self.site.chaos.calm_down(),
            Action::Settled | Action::End => {}
        }
    }

    /// A process dies, and comes back after a while.
    fn bury(&mut self, slot: usize) {
        if self.processes.get_mut(slot).is_some_and(|p| p.kill(&self.site)) {
            self.restart(slot);
        }
    }

    /// A process is stopped in good order, and comes back after a while.
    fn stop(&mut self, slot: usize) {
        if self.processes.get_mut(slot).is_some_and(|p| p.stop(&self.site)) {
            self.restart(slot);
        }
    }

    fn restart(&mut self, slot: usize) {
        let longest = if self.site.chaos.is_calm() { 5_000 } else { 20_000 };
        let after = self.dice.millis(10..longest);
        self.schedule(after, Action::Start(slot));
        if self.dice.chance(3000) {
            self.release(slot);
        } else if self.dice.chance(5000) {
            self.stream_breaks(slot);
        }
    }

    /// Misfortune at any moment: a process is killed, stopped or cut off, the doorbell is wiped or restarted, a worker
    /// is taken for dead or its control stream breaks.
    fn strike(&mut self) {
        if self.site.chaos.is_calm() {
            return;
        }
        let slot = usize::try_from(self.dice.within(0..self.processes.len() as u64)).unwrap_or(0);
        match self.dice.within(0..10) {
            0 => self.site.bell.wipe(),
            1 => {
                let site = Arc::clone(&self.site);
                tokio::spawn(async move { site.bell.let_go().await });
            }
            2 => self.release(slot),
            3 => self.stop(slot),
            4 => self.stream_breaks(slot),
            5..=6 => self.cut_off(slot),
            _ => self.bury(slot),
        }
    }

    /// A process loses one of its connections, in one direction, while its peers keep theirs.
    fn cut_off(&mut self, slot: usize) {
        let time = self.dice.millis(1_000..LONGEST_PAUSE_MS);
        let num_coordinators = self.processes.iter().filter(|p| p.role == Role::Coordinator).count();
        let lost = if self.dice.chance(5_000) { Lost::Requests } else { Lost::Answers };
        let which = usize::try_from(self.dice.within(0..4)).unwrap_or(0);
        match self.processes.get(slot) {
            Some(process) if which < 3 => process.cut(which, lost, time),
            _ => {
                let to = usize::try_from(self.dice.within(0..num_coordinators as u64)).unwrap_or(0);
                self.site.network.cut(slot, to, time);
            }
        }
    }

    /// The control stream of a worker breaks; the worker itself may be well.
    fn stream_breaks(&self, slot: usize) {
        let Some(process) = self.processes.get(slot).filter(|p| p.role != Role::Coordinator) else { return };
        let (network, worker) = (Arc::clone(&self.site.network), process.worker_id());
        tokio::spawn(async move {
            // Nobody insists: leases run out anyway.
            let _ = network.call(OUTSIDE, move |c| async move { c.stream_broke(&worker).await }).await;
        });
    }

    /// Reports to a coordinator that a worker is dead, rightly or not.
    fn release(&self, slot: usize) {
        let Some(process) = self.processes.get(slot).filter(|p| p.role != Role::Coordinator) else { return };
        let (network, worker) = (Arc::clone(&self.site.network), process.worker_id());
        tokio::spawn(async move {
            // Nobody insists: leases run out anyway.
            let _ = network.call(OUTSIDE, move |c| async move { c.coordinator.release_worker(&worker).await }).await;
        });
    }

    fn user(&self, index: usize, action: Action) {
        let Some(order) = self.orders.get(index).cloned() else { return };
        let (site, users) = (Arc::clone(&self.site), Arc::clone(&self.users));
        let user = format!("user-{index}");
        site.chaos.note(&user, || format!("{action:?}"));
        users.num_busy.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&self.site.ledger).watch("a user", async move {
            let network = &site.network;
            let job = lock(&users.jobs).get(&index).copied();
            match (action, job) {
                (Action::Submit(_), _) => {
                    let request = order.request(&order.source);
                    let answer = network
                        .insist(|c| {
                            let request = request.clone();
                            async move { c.coordinator.submit(request).await }
                        })
                        .await;
                    match answer {
                        Submitted::Created(job) | Submitted::Existing(job) => {
                            lock(&users.jobs).insert(index, job.id);
                        }
                        Submitted::KeyReused(job) => {
                            site.ledger.violate(format!("job {job}: the same request was taken for another"))
                        }
                    }
                }
                (Action::Clash(_), Some(job)) => {
                    let request = order.request(&FakeSource::numbered(ANOTHER_SOURCE));
                    let answer = network
                        .insist(|c| {
                            let request = request.clone();
                            async move { c.coordinator.submit(request).await }
                        })
                        .await;
                    if !matches!(answer, Submitted::KeyReused(id) if id == job) {
                        site.ledger
                            .violate(format!("job {job}: another request with its key was answered with {answer:?}"));
                    }
                }
                (Action::Cancel(_), Some(job)) => {
                    network.insist(|c| async move { c.coordinator.cancel(job).await }).await;
                }
                (Action::Retry(_), Some(job)) => {
                    network.insist(|c| async move { c.coordinator.retry(job).await }).await;
                }
                (Action::Pause(_), Some(job)) => {
                    network.insist(|c| async move { c.pause(job, true).await }).await;
                    sleep(order.pause_at.map_or(Duration::ZERO, |(_, time)| time)).await;
                    network.insist(|c| async move { c.pause(job, false).await }).await;
                }
                (Action::Resume(_), Some(job)) => {
                    network.insist(|c| async move { c.pause(job, false).await }).await;
                }
                _ => {}
            }
            users.num_busy.fetch_sub(1, Ordering::Relaxed);
            site.ledger.changed.notify_one();
        });
    }

    async fn finish(mut self, expected: BTreeMap<u64, String>) -> (Outcome, Vec<String>) {
        let ledger = Arc::clone(&self.site.ledger);
        for process in &mut self.processes {
            process.kill(&self.site);
        }
        if ledger.violation().is_none() {
            ledger.step();
            let expected = self
                .orders
                .iter()
                .filter_map(|o| Some((o.source.reference.locator.clone(), expected.get(&o.source.number)?.clone())));
            verify::jobs(&ledger, &expected.collect()).await;
        }
        if ledger.violation().is_none() {
            self.collect_garbage().await;
            verify::objects_have_owners(&ledger, &self.blobs).await;
        }
        let rows = ledger.rows();
        let num = |is: fn(JobState) -> bool| rows.iter().filter(|r| is(r.job.state)).count() as u64;
        let hashes = rows.iter().filter_map(|r| Some(verify::presentation(r)?.hash.clone())).collect();
        let chaos = &self.site.chaos;
        let (num_effects, num_faults, num_crashes) = chaos.counts();
        let (trace, trace_hash) = chaos.trace();
        let outcome = Outcome {
            seed: self.seed,
            violation: ledger.violation(),
            trace,
            trace_hash,
            events_hash: verify::events_hash(&ledger).await,
            blobs_hash: verify::blobs_hash(&self.blobs).await,
            virtual_ms: chaos.elapsed_ms(),
            num_effects,
            num_faults,
            num_crashes,
            num_replanned: verify::num_replanned(&ledger).await,
            num_second_attempts: verify::num_second_attempts(&ledger).await,
            num_published: num(|s| s == JobState::Published),
            num_unpublished: num(|s| s != JobState::Published),
        };
        (outcome, hashes)
    }

    /// A last collection, by a coordinator without faults.
    async fn collect_garbage(&self) {
        let site = &self.site;
        let store = Arc::clone(site.ledger.store());
        let world = machine(site.chaos.started(), 0, site.chaos.clock_step(), Arc::clone(&site.ids));
        let coordinator = Coordinator::new(
            store as Arc<dyn JobStore>,
            Arc::clone(&site.blobs) as Arc<_>,
            Arc::clone(&site.bell) as Arc<_>,
            world,
            coordinator_config(),
        );
        for rows in site.ledger.rows() {
            if let Err(error) = coordinator.collect(&rows.job).await {
                site.ledger.violate(format!("job {}: its garbage cannot be collected: {error}", rows.job.id));
            }
        }
    }
}
