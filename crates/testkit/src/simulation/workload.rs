//! What users do in a simulation: which jobs they ask for, when, how often, and what they regret.

use crate::dice::Dice;
use crate::toolkit::FakeSource;
use std::ops::Range;
use std::time::Duration;

/// Made-up sources to choose from; few, so that their runs without faults can be kept.
const NUM_SOURCES: u64 = 60;

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
    pub idempotency_key: String,
    /// When it is asked for; more than once for users who are not sure.
    pub submit_at: Vec<Duration>,
    /// When somebody uses the same key for another source.
    pub clash_at: Option<Duration>,
    pub cancel_at: Option<Duration>,
    /// Cancels when the assembly has begun.
    pub cancels_assembly: bool,
    pub retry_at: Vec<Duration>,
}

impl Workload {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 3);
        let num_jobs = dice.pick(&[1, 1, 2, 3]);
        let orders = (0..num_jobs).map(|i| Order::drawn(&mut dice, i)).collect();
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
            idempotency_key: "plain".into(),
            submit_at: vec![Duration::ZERO],
            clash_at: None,
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
    fn drawn(dice: &mut Dice, index: u64) -> Self {
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
        Order {
            source: FakeSource::numbered(dice.within(0..NUM_SOURCES)),
            idempotency_key: format!("key-{index}"),
            submit_at,
            clash_at: sometime(dice, 1500, 0..30_000),
            cancel_at,
            cancels_assembly,
            retry_at,
        }
    }
}
