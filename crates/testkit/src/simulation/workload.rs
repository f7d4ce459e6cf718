//! What users do in a simulation: which jobs they ask for, when, how often, and what they regret.

use crate::dice::Dice;
use crate::toolkit::FakeSource;
use splitreel_core::fair::Priority;
use splitreel_core::job::JobRequest;
use std::ops::Range;
use std::time::Duration;

/// Fake sources to choose from; few, so that their runs without faults can be kept.
const NUM_SOURCES: u64 = 60;

/// Who asks; the first has a quota.
pub(super) const TENANTS: [&str; 3] = ["narrow", "wide", "plain"];

/// All users of one simulation.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub orders: Vec<Order>,
    pub num_coordinators: usize,
    pub num_workers: usize,
    pub num_assemblers: usize,
    pub slots: usize,
}

/// One job as its user handles it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub source: FakeSource,
    pub tenant: String,
    pub priority: Priority,
    pub idempotency_key: String,
    /// When it is asked for; more than once for users who are not sure.
    pub submit_at: Vec<Duration>,
    /// When somebody uses the same key for another source.
    pub clash_at: Option<Duration>,
    /// When it is paused, and for how long.
    pub pause_at: Option<(Duration, Duration)>,
    pub cancel_at: Option<Duration>,
    /// Cancels when the assembly has begun.
    pub cancels_assembly: bool,
    pub retry_at: Vec<Duration>,
}

impl Workload {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 3);
        let num_jobs = dice.pick(&[1, 1, 2, 3]);
        let mut orders: Vec<Order> = Vec::new();
        for _ in 0..num_jobs {
            let mut order = Order::drawn(&mut dice);
            // The same keys for each tenant: they must not meet.
            let number = orders.iter().filter(|o| o.tenant == order.tenant).count();
            order.idempotency_key = format!("key-{number}");
            orders.push(order);
        }
        Workload {
            orders,
            num_coordinators: dice.pick(&[1, 2, 2]),
            num_workers: dice.pick(&[1, 2, 3, 4]),
            num_assemblers: dice.pick(&[1, 2]),
            slots: dice.pick(&[1, 2]),
        }
    }

    /// One job, asked for once, on one process of each kind.
    pub(super) fn plain(source: &FakeSource) -> Self {
        let order = Order {
            source: source.clone(),
            tenant: TENANTS[0].into(),
            priority: Priority::Normal,
            idempotency_key: "plain".into(),
            submit_at: vec![Duration::ZERO],
            clash_at: None,
            pause_at: None,
            cancel_at: None,
            cancels_assembly: false,
            retry_at: Vec::new(),
        };
        Workload { orders: vec![order], num_coordinators: 1, num_workers: 1, num_assemblers: 1, slots: 2 }
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &FakeSource> {
        self.orders.iter().map(|o| &o.source)
    }
}

impl Order {
    /// What the user asks for.
    pub(super) fn request(&self, source: &FakeSource) -> JobRequest {
        JobRequest { priority: self.priority, ..source.request(&self.tenant, &self.idempotency_key) }
    }

    fn drawn(dice: &mut Dice) -> Self {
        let sometime =
            |dice: &mut Dice, per_10_000: u32, range: Range<u64>| dice.chance(per_10_000).then(|| dice.millis(range));
        let mut submit_at = vec![dice.millis(0..10_000)];
        submit_at.extend(sometime(dice, 3000, 0..20_000));
        let cancel_at = sometime(dice, 2500, 500..30_000);
        let cancels_assembly = dice.chance(1500);
        let retry_at = if cancel_at.is_some() || cancels_assembly || dice.chance(2000) {
            (0..dice.within(0..3)).map(|_| dice.millis(1_000..80_000)).collect()
        } else {
            Vec::new()
        };
        let pause_at = sometime(dice, 2500, 500..40_000).map(|at| (at, dice.millis(100..30_000)));
        Order {
            source: FakeSource::numbered(dice.within(0..NUM_SOURCES)),
            tenant: dice.pick(&TENANTS).into(),
            priority: dice.pick(&[Priority::Low, Priority::Normal, Priority::High]),
            idempotency_key: String::new(),
            submit_at,
            clash_at: sometime(dice, 1500, 0..30_000),
            pause_at,
            cancel_at,
            cancels_assembly,
            retry_at,
        }
    }
}
