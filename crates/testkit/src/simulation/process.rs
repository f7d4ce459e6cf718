//! Processes: each incarnation is a real service behind its own gate. Killing one drops all that it had in memory.

use super::audit::AuditedStore;
use super::blobs::{SharedBell, SharedBlobs};
use super::bug::{Bug, FirstPlanLeases, FirstPlans, SharedKeyLeases};
use super::chaos::Chaos;
use super::gate::{Gate, Lost};
use super::ledger::Ledger;
use super::network::{Network, Reached, RemoteLeases};
use super::workload::TENANTS;
use super::world::{CountedIds, machine};
use crate::spoil::Spoiler;
use crate::toolkit::FakeToolkit;
use splitreel_assembler::Assembler;
use splitreel_backend::fault::{FaultyBlobs, FaultyDoorbell, FaultyLeases, FaultyStore};
use splitreel_backend::{BlobStore, Doorbell, JobStore, Leases};
use splitreel_coordinator::Coordinator;
use splitreel_core::WorkerId;
use splitreel_core::fair::{Share, Shares};
use splitreel_core::task::RetryPolicy;
use splitreel_worker::Worker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// What all processes share: it survives their crashes.
pub(super) struct Site {
    pub chaos: Arc<Chaos>,
    pub ledger: Arc<Ledger>,
    pub blobs: Arc<SharedBlobs>,
    pub bell: Arc<SharedBell>,
    pub network: Arc<Network>,
    pub toolkit: Arc<FakeToolkit>,
    pub ids: Arc<CountedIds>,
    pub crashed: UnboundedSender<usize>,
    pub bug: Option<Bug>,
    /// Plants a bug of remembered plans.
    pub first_plans: FirstPlans,
    /// Plants a bug of stored media.
    pub spoiler: Option<Arc<Spoiler>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Coordinator,
    Worker { slots: usize },
    Assembler,
}

/// A place where one process runs, or will again.
pub(super) struct Process {
    pub role: Role,
    slot: usize,
    incarnation: u32,
    running: Option<Running>,
}

struct Running {
    gate: Arc<Gate>,
    killed: CancellationToken,
    shutdown: CancellationToken,
}

/// Settings of simulated coordinators.
pub(super) fn coordinator_config() -> splitreel_coordinator::Config {
    let of = |weight, max_in_flight| Share { weight, max_in_flight };
    let [narrow, wide, _] = TENANTS;
    splitreel_coordinator::Config {
        retry: RetryPolicy { infra_backoff_max_ms: 20_000, ..RetryPolicy::default() },
        pump_every: Duration::from_secs(1),
        speculate_every: Some(Duration::from_secs(1)),
        garbage_grace_ms: 5_000,
        garbage_every: Duration::from_secs(10),
        shares: Shares {
            default: Share::default(),
            tenants: [(narrow.to_owned(), of(1, Some(2))), (wide.to_owned(), of(3, None))].into(),
        },
        ..splitreel_coordinator::Config::default()
    }
}

impl Process {
    pub(super) fn new(role: Role, slot: usize) -> Self {
        Process { role, slot, incarnation: 0, running: None }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The name that the incarnation claims under.
    pub(super) fn worker_id(&self) -> WorkerId {
        let role = match self.role {
            Role::Coordinator => "coordinator",
            Role::Worker { .. } => "worker",
            Role::Assembler => "assembler",
        };
        WorkerId(format!("{role}-{}.{}", self.slot, self.incarnation))
    }

    /// Starts the next incarnation.
    pub(super) fn start(&mut self, site: &Site) {
        if self.is_running() {
            return;
        }
        self.incarnation += 1;
        let id = self.worker_id();
        site.chaos.note(&id.0, || "starts".into());
        let gate = Arc::new(Gate::new(id.0.clone(), self.slot, Arc::clone(&site.chaos), site.crashed.clone()));
        let (killed, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let until = shutdown.clone();
        let seams = Seams::of(site, &gate, self.slot);
        match self.role {
            Role::Coordinator => {
                let skew_ms = site.chaos.skew_ms();
                let world = machine(site.chaos.started(), skew_ms, site.chaos.clock_step(), Arc::clone(&site.ids));
                let store = AuditedStore::new(id.0, Arc::clone(&site.ledger), Arc::clone(&site.chaos));
                let store: Arc<dyn JobStore> = Arc::new(FaultyStore::new(Arc::new(store), Arc::clone(&gate) as Arc<_>));
                let config = coordinator_config();
                let coordinator = Coordinator::new(Arc::clone(&store), seams.blobs, seams.bell, world.clone(), config);
                let reached = Reached { coordinator: coordinator.clone(), store, world };
                site.network.join(self.slot, reached, killed.clone());
                until_killed(site, &killed, async move { coordinator.run(until).await });
            }
            Role::Worker { slots } => {
                let config = splitreel_worker::Config { id, slots };
                let toolkit = Arc::clone(&site.toolkit);
                let sources = Arc::clone(&toolkit) as Arc<_>;
                let ids = Arc::clone(&site.ids) as Arc<_>;
                let worker = Worker::new(config, seams.leases, seams.bell, seams.blobs, sources, toolkit, ids);
                until_killed(site, &killed, async move { worker.run(until.clone(), until).await });
            }
            Role::Assembler => {
                let config = splitreel_assembler::Config { id, slots: 1 };
                let assembler =
                    Assembler::new(config, seams.leases, seams.bell, seams.blobs, Arc::clone(&site.ids) as Arc<_>);
                until_killed(site, &killed, async move { assembler.run(until.clone(), until).await });
            }
        }
        self.running = Some(Running { gate, killed, shutdown });
    }

    /// Cuts the running incarnation off from one of its seams.
    pub(super) fn cut(&self, seam: usize, lost: Lost, time: Duration) {
        let seams = match self.role {
            Role::Coordinator => ["store", "blobs", "doorbell"],
            Role::Worker { .. } | Role::Assembler => ["leases", "blobs", "doorbell"],
        };
        if let (Some(running), Some(seam)) = (&self.running, seams.get(seam % seams.len())) {
            running.gate.cut(seam, lost, time);
        }
    }

    /// Asks the incarnation to end; it may take its time, while the next one already runs. False: none runs.
    pub(super) fn stop(&mut self, site: &Site) -> bool {
        let Some(running) = self.running.take() else { return false };
        site.chaos.note(running.gate.name(), || "is asked to stop".into());
        site.network.leave(self.slot);
        running.shutdown.cancel();
        true
    }

    /// Ends the incarnation between two of its effects. False: none runs.
    pub(super) fn kill(&mut self, site: &Site) -> bool {
        let Some(running) = self.running.take() else { return false };
        site.chaos.note(running.gate.name(), || "dies".into());
        site.network.leave(self.slot);
        running.gate.close();
        running.killed.cancel();
        true
    }
}

/// The seams as one incarnation sees them.
struct Seams {
    blobs: Arc<dyn BlobStore>,
    bell: Arc<dyn Doorbell>,
    leases: Arc<dyn Leases>,
}

impl Seams {
    fn of(site: &Site, gate: &Arc<Gate>, slot: usize) -> Self {
        let plan = || Arc::clone(gate) as Arc<_>;
        let remote: Arc<dyn Leases> = Arc::new(RemoteLeases { network: Arc::clone(&site.network), from: slot });
        let remote =
            if site.bug == Some(Bug::KeySharedByAttempts) { Arc::new(SharedKeyLeases(remote)) } else { remote };
        let remote: Arc<dyn Leases> = match site.bug {
            Some(Bug::PlanOfAnotherGeneration) => {
                Arc::new(FirstPlanLeases { inner: remote, first: Arc::clone(&site.first_plans) })
            }
            _ => remote,
        };
        let blobs: Arc<dyn BlobStore> = Arc::clone(&site.blobs) as Arc<_>;
        let (blobs, remote) = match &site.spoiler {
            Some(spoiler) => (spoiler.blobs(blobs), spoiler.leases(remote)),
            None => (blobs, remote),
        };
        Seams {
            blobs: Arc::new(FaultyBlobs::new(blobs, plan())),
            bell: Arc::new(FaultyDoorbell::new(Arc::clone(&site.bell) as Arc<_>, plan())),
            leases: Arc::new(FaultyLeases::new(remote, plan())),
        }
    }
}

fn until_killed(site: &Site, killed: &CancellationToken, service: impl Future<Output = ()> + Send + 'static) {
    let killed = killed.clone();
    Arc::clone(&site.ledger).watch("a process", async move {
        tokio::select! {
            biased;
            () = killed.cancelled() => {}
            () = service => {}
        }
    });
}
