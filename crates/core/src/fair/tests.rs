//! Shares, quotas, classes, aging, turns; and what holds whatever the numbers.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

fn job(n: usize) -> JobId {
    JobId(Uuid::from_u128(n as u128))
}

fn demand(n: usize, tenant: &str, waiting: usize) -> Demand {
    Demand { job: job(n), tenant: tenant.into(), priority: Priority::Normal, created_ms: 0, waiting }
}

fn share(weight: u32, max_in_flight: Option<u32>) -> Share {
    Share { weight, max_in_flight }
}

fn shares(of: &[(&str, Share)]) -> Shares {
    Shares { default: Share::default(), tenants: of.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect() }
}

fn flying(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, num)| ((*name).to_owned(), *num)).collect()
}

fn count(picks: &[JobId], n: usize) -> usize {
    picks.iter().filter(|id| **id == job(n)).count()
}

#[test]
fn words_of_classes_are_read_back() {
    for class in [Priority::Low, Priority::Normal, Priority::High] {
        assert_eq!(Priority::parse(class.as_str()), Some(class));
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
    assert_eq!(Priority::parse("urgent"), None);
    assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
}

#[test]
fn one_tenant_is_served_job_by_job_in_order_of_age() {
    let jobs = [
        Demand { created_ms: 20, ..demand(1, "t", 2) },
        Demand { created_ms: 10, ..demand(2, "t", 1) },
        demand(3, "t", 0),
    ];
    assert_eq!(allot(9, &jobs, &BTreeMap::new(), &Shares::default(), 30), [job(2), job(1), job(1)]);
    assert_eq!(allot(2, &jobs, &BTreeMap::new(), &Shares::default(), 30), [job(2), job(1)]);
    assert!(allot(0, &jobs, &BTreeMap::new(), &Shares::default(), 30).is_empty());
}

#[test]
fn a_tenant_with_hundreds_of_tasks_does_not_hold_up_another() {
    let jobs = [demand(1, "many", 200), Demand { created_ms: 50, ..demand(2, "few", 3) }];
    let picks = allot(4, &jobs, &flying(&[("many", 10)]), &Shares::default(), 60);
    assert_eq!(picks, [job(2), job(2), job(2), job(1)]);
}

#[test]
fn places_are_shared_by_weight() {
    let jobs = [demand(1, "a", 100), demand(2, "b", 100), demand(3, "c", 100)];
    let shares = shares(&[("a", share(1, None)), ("b", share(2, None)), ("c", share(5, None))]);
    let picks = allot(40, &jobs, &BTreeMap::new(), &shares, 0);
    assert_eq!([1, 2, 3].map(|n| count(&picks, n)), [5, 10, 25]);
}

#[test]
fn what_is_in_flight_counts() {
    let jobs = [demand(1, "a", 100), demand(2, "b", 100)];
    let picks = allot(10, &jobs, &flying(&[("a", 6), ("not waiting", 50)]), &Shares::default(), 0);
    assert_eq!([1, 2].map(|n| count(&picks, n)), [2, 8]);
}

#[test]
fn a_weight_of_nothing_counts_as_one() {
    let jobs = [demand(1, "a", 100), demand(2, "b", 100)];
    let shares = shares(&[("a", share(0, None))]);
    let picks = allot(10, &jobs, &BTreeMap::new(), &shares, 0);
    assert_eq!([1, 2].map(|n| count(&picks, n)), [5, 5]);
}

#[test]
fn a_quota_leaves_its_places_to_others() {
    let jobs = [demand(1, "a", 100), demand(2, "b", 100), demand(3, "barred", 9)];
    let shares = shares(&[("a", share(9, Some(3))), ("barred", share(1, Some(0)))]);
    let picks = allot(10, &jobs, &flying(&[("a", 1)]), &shares, 0);
    assert_eq!([1, 2, 3].map(|n| count(&picks, n)), [2, 8, 0]);
}

#[test]
fn a_higher_class_goes_first_within_its_tenant_only() {
    let high = Demand { priority: Priority::High, created_ms: 9, ..demand(2, "a", 2) };
    let jobs = [demand(1, "a", 2), high, Demand { priority: Priority::Low, ..demand(3, "b", 2) }];
    let picks = allot(4, &jobs, &BTreeMap::new(), &Shares::default(), 10);
    assert_eq!([1, 2, 3].map(|n| count(&picks, n)), [0, 2, 2]);
}

#[test]
fn waiting_long_raises_a_class() {
    let jobs = |now_ms| {
        [Demand { priority: Priority::Low, ..demand(1, "t", 1) }, Demand { created_ms: now_ms, ..demand(2, "t", 1) }]
    };
    let first = |now_ms| allot(1, &jobs(now_ms), &BTreeMap::new(), &Shares::default(), now_ms);
    assert_eq!(first(AGING_MS - 1), [job(2)]);
    assert_eq!(first(AGING_MS), [job(1)], "as high as the new one, and older");
}

#[test]
fn clocks_that_disagree_do_no_harm() {
    let jobs =
        [Demand { created_ms: i64::MAX, ..demand(1, "t", 1) }, Demand { created_ms: i64::MIN, ..demand(2, "t", 1) }];
    for now_ms in [i64::MIN, 0, i64::MAX] {
        assert_eq!(allot(5, &jobs, &BTreeMap::new(), &Shares::default(), now_ms).len(), 2);
    }
}

#[test]
fn more_tenants_than_places_take_turns() {
    let tenants = ["a", "b", "c", "d", "e", "f"];
    let jobs: Vec<_> =
        (0..).zip(tenants).map(|(n, t)| Demand { created_ms: n, ..demand(n as usize, t, 1_000) }).collect();
    let mut served = BTreeMap::new();
    for second in 0..600 {
        for id in allot(2, &jobs, &BTreeMap::new(), &Shares::default(), second * 1_000) {
            *served.entry(id).or_insert(0) += 1;
        }
    }
    assert_eq!(served.values().sum::<i32>(), 1_200);
    assert!(served.len() == 6 && served.values().all(|n| (140..260).contains(n)), "{served:?}");
}

/// (weight, places in flight, quota) of tenants, and their jobs: (tenant, class, age, waiting).
type Case = (Vec<(u32, usize, Option<u32>)>, Vec<(usize, u8, i64, usize)>, usize, i64);

fn cases() -> impl Strategy<Value = Case> {
    let tenants = vec((1..20_u32, 0..6_usize, proptest::option::weighted(0.3, 0..8_u32)), 1..6);
    let jobs = vec((0..6_usize, 0..3_u8, 0..4 * AGING_MS, 0..12_usize), 0..12);
    (tenants, jobs, 0..40_usize, 0..5 * AGING_MS)
}

fn name(tenant: usize) -> String {
    format!("tenant {tenant}")
}

fn made(case: &Case) -> (Vec<Demand>, BTreeMap<String, usize>, Shares) {
    let (tenants, jobs, ..) = case;
    let classes = [Priority::Low, Priority::Normal, Priority::High];
    let demands = jobs.iter().enumerate().map(|(n, (tenant, class, created_ms, waiting))| Demand {
        job: job(n),
        tenant: name(tenant % tenants.len()),
        priority: classes[usize::from(*class)],
        created_ms: *created_ms,
        waiting: *waiting,
    });
    let in_flight = tenants.iter().enumerate().map(|(n, (_, flying, _))| (name(n), *flying)).collect();
    let tenants = tenants.iter().enumerate().map(|(n, (weight, _, most))| (name(n), share(*weight, *most))).collect();
    (demands.collect(), in_flight, Shares { default: Share::default(), tenants })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_place_is_wasted_and_none_is_given_twice(case in cases()) {
        let (demands, in_flight, shares) = made(&case);
        let picks = allot(case.2, &demands, &in_flight, &shares, case.3);
        let mut room = 0;
        for tenant in (0..case.0.len()).map(name) {
            let of = |d: &&Demand| d.tenant == tenant;
            let waiting: usize = demands.iter().filter(of).map(|d| d.waiting).sum();
            let given = picks.iter().filter(|p| demands.iter().filter(of).any(|d| d.job == **p)).count();
            let most = shares.of(&tenant).max_in_flight.map_or(usize::MAX, |m| m as usize);
            let free = waiting.min(most.saturating_sub(in_flight[&tenant]));
            prop_assert!(given <= free, "{given} of {free} for {tenant}");
            room += free;
        }
        prop_assert_eq!(picks.len(), room.min(case.2));
        for demand in &demands {
            prop_assert!(picks.iter().filter(|p| **p == demand.job).count() <= demand.waiting);
        }
    }

    #[test]
    fn the_order_of_the_inputs_does_not_matter(case in cases(), turn in 0..12_usize) {
        let (mut demands, in_flight, shares) = made(&case);
        let picks = allot(case.2, &demands, &in_flight, &shares, case.3);
        demands.reverse();
        let middle = turn.min(demands.len());
        demands.rotate_left(middle);
        prop_assert_eq!(allot(case.2, &demands, &in_flight, &shares, case.3), picks);
    }

    #[test]
    fn within_a_tenant_no_job_waits_for_one_that_comes_after_it(case in cases()) {
        let (demands, in_flight, shares) = made(&case);
        let picks = allot(case.2, &demands, &in_flight, &shares, case.3);
        for tenant in (0..case.0.len()).map(name) {
            let mut expected: Vec<&Demand> = demands.iter().filter(|d| d.tenant == tenant).collect();
            expected.sort_by_key(|d| order(d, case.3));
            let expected = expected.iter().flat_map(|d| std::iter::repeat_n(d.job, d.waiting));
            let given = picks.iter().copied().filter(|p| demands.iter().any(|d| d.tenant == tenant && d.job == *p));
            let given: Vec<_> = given.collect();
            prop_assert_eq!(expected.take(given.len()).collect::<Vec<_>>(), given);
        }
    }

    /// With endless demand from nothing in flight: of no two tenants would both be nearer to their weights if one
    /// gave the other its last place; two or three are each less than one place off their share, once all have one.
    #[test]
    fn weights_are_kept_within_one_place(weights in vec(1..20_u32, 1..8), more in 0..150_usize) {
        let total: u32 = weights.iter().sum();
        let least = weights.iter().min().copied().unwrap_or(1);
        let free = total.div_ceil(least) as usize + more;
        let demands: Vec<_> = (0..weights.len()).map(|n| demand(n, &name(n), 10_000)).collect();
        let tenants = weights.iter().enumerate().map(|(n, weight)| (name(n), share(*weight, None))).collect();
        let shares = Shares { default: Share::default(), tenants };
        let picks = allot(free, &demands, &BTreeMap::new(), &shares, 0);
        let given: Vec<_> = (0..weights.len()).map(|n| count(&picks, n) as i64).collect();
        for (n, weight) in weights.iter().map(|w| i64::from(*w)).enumerate() {
            for (m, other) in weights.iter().map(|w| i64::from(*w)).enumerate() {
                let is_even = given[n] < 2 || (2 * given[n] - 1) * other <= (2 * given[m] + 1) * weight;
                prop_assert!(is_even, "{given:?} for {weights:?}: {n} has too many beside {m}");
            }
            let off = (given[n] * i64::from(total) - free as i64 * weight).abs();
            prop_assert!(weights.len() > 3 || off < i64::from(total), "{given:?} for {weights:?}");
        }
    }

    #[test]
    fn who_gets_nothing_has_no_influence(case in cases()) {
        let (mut demands, in_flight, shares) = made(&case);
        let picks = allot(case.2, &demands, &in_flight, &shares, case.3);
        demands.retain(|d| picks.contains(&d.job));
        prop_assert_eq!(allot(case.2, &demands, &in_flight, &shares, case.3), picks);
    }

    #[test]
    fn equal_tenants_are_levelled(flying in vec(0..9_usize, 1..7), free in 7..60_usize) {
        let demands: Vec<_> = (0..flying.len()).map(|n| demand(n, &name(n), 10_000)).collect();
        let in_flight = flying.iter().enumerate().map(|(n, num)| (name(n), *num)).collect();
        let picks = allot(free, &demands, &in_flight, &Shares::default(), 0);
        let after: Vec<_> = flying.iter().enumerate().map(|(n, num)| num + count(&picks, n)).collect();
        let least = after.iter().min().copied().unwrap_or(0);
        for (n, num) in after.iter().enumerate() {
            prop_assert!(*num <= least + 1 || *num == flying[n], "{flying:?} became {after:?}");
        }
    }

    /// Others have older jobs that never end, any weight and any number of places: a small job gets through.
    #[test]
    fn nobody_starves(weights in vec(1..100_u32, 1..9), window in 1..12_usize, own in 1..3_u32) {
        let mut tenants: BTreeMap<_, _> =
            weights.iter().enumerate().map(|(n, weight)| (name(n), share(*weight, None))).collect();
        let victim = weights.len();
        tenants.insert(name(victim), share(own, None));
        let shares = Shares { default: Share::default(), tenants };
        let mut flying: std::collections::VecDeque<JobId> = std::collections::VecDeque::new();
        let mut left = 5;
        let rounds = 400 * (victim as i64 + 1);
        for round in 0..rounds {
            flying.pop_front();
            let mut demands: Vec<_> = (0..victim).map(|n| demand(n, &name(n), 10_000)).collect();
            demands.push(Demand { created_ms: 1, ..demand(victim, &name(victim), left) });
            let mut in_flight = BTreeMap::new();
            for id in &flying {
                *in_flight.entry(name(id.0.as_u128() as usize)).or_insert(0) += 1;
            }
            let picks = allot(window - flying.len(), &demands, &in_flight, &shares, round * 1_000);
            left -= count(&picks, victim);
            flying.extend(picks);
            if left == 0 {
                return Ok(());
            }
        }
        prop_assert!(false, "{left} tasks still wait after {rounds} tasks of others");
    }
}
