//! `scripts/storm`: random processes are killed through a number of jobs, the database and the broker among them.

use super::servers::OwnServers;
use super::stack::Role;
use super::stage::Stage;
use crate::clips;
use serde_json::{Value, json};
use splitreel_testkit::dice::Dice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KILL_EVERY: Duration = Duration::from_secs(5);
/// Jobs that have not ended by then are lost.
const PATIENCE: Duration = Duration::from_secs(1800);
const WORKERS: [&str; 3] = ["one", "two", "three"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// A role that is started again whenever it ends.
struct Kept<'a> {
    name: String,
    start: Box<dyn Fn() -> Role + 'a>,
    role: Role,
}

impl<'a> Kept<'a> {
    fn new(name: impl Into<String>, start: impl Fn() -> Role + 'a) -> Self {
        Kept { name: name.into(), role: start(), start: Box::new(start) }
    }

    fn restart(&mut self) {
        // Dropping the old one kills it and waits until it is gone.
        self.role = (self.start)();
    }
}

fn roles(stage: &Stage) -> Vec<Kept<'_>> {
    let stack = &stage.stack;
    let api = || ("SPLITREEL_SERVER", stage.api.endpoint());
    let coordinators = [0, 1]
        .map(|n| Kept::new(format!("coordinator {n}"), move || stack.spawn("coordinator", &stage.coordinating(n))));
    let workers = WORKERS.map(|name| {
        Kept::new(format!("worker {name}"), move || stack.spawn("worker", &[stack.hands(name), vec![api()]].concat()))
    });
    let assemblers = [0, 1].map(|n| Kept::new(format!("assembler {n}"), move || stack.spawn("assembler", &[api()])));
    coordinators.into_iter().chain(workers).chain(assemblers).collect()
}

/// Makes jobs until there are enough; who gets no answer asks again with the same key.
fn submit(stage: &Stage, jobs: u64, deadline: Instant) -> Vec<String> {
    let one = |_| {
        let key = uuid::Uuid::now_v7().to_string();
        while Instant::now() < deadline {
            if let Ok(job) = stage.try_submit(&key) {
                return Some(job);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        None
    };
    (0..jobs).filter_map(one).collect()
}

/// Runs jobs to their end while `strike` does what it wants every five seconds. Answers the jobs and the time it took.
fn through(
    stage: &Stage,
    jobs: u64,
    kept: &mut [Kept<'_>],
    mut strike: impl FnMut(&mut [Kept<'_>]),
) -> (Vec<String>, Duration) {
    let begun = Instant::now();
    let mut next = begun + KILL_EVERY;
    let made = std::thread::scope(|scope| {
        let submitting = scope.spawn(|| submit(stage, jobs, begun + PATIENCE));
        let before =
            stage.stack.rows("SELECT count(*) AS jobs FROM jobs WHERE ended_ms IS NOT NULL")[0]["jobs"].as_u64();
        while begun.elapsed() < PATIENCE {
            let ended = stage.stack.try_rows("SELECT count(*) AS jobs FROM jobs WHERE ended_ms IS NOT NULL");
            if ended.is_ok_and(|rows| rows[0]["jobs"].as_u64() == before.map(|n| n + jobs)) {
                break;
            }
            if Instant::now() >= next {
                strike(kept);
                next += KILL_EVERY;
            }
            for one in kept.iter_mut().filter_map(|k| k.role.has_ended().then_some(k)) {
                eprintln!("{} ended by itself and is started again: {}", one.name, one.role.last_words());
                one.restart();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        submitting.join().unwrap()
    });
    (made, begun.elapsed())
}

/// Starts a server again in the background; says so while it does.
struct Restarting<'a> {
    own: &'a OwnServers,
    busy: [AtomicBool; 2],
}

const SERVERS: [&str; 2] = ["postgres", "rabbitmq"];

impl Restarting<'_> {
    fn kill<'s>(&'s self, server: usize, scope: &'s std::thread::Scope<'s, '_>) {
        self.busy[server].store(true, Ordering::SeqCst);
        scope.spawn(move || {
            self.own.run(&["restart", SERVERS[server]]);
            self.busy[server].store(false, Ordering::SeqCst);
        });
    }
}

#[test]
#[ignore = "takes minutes: scripts/storm runs it"]
fn random_processes_are_killed_through_many_jobs() {
    let (jobs, seed) = (number("SPLITREEL_STORM_JOBS", 20), number("SPLITREEL_STORM_SEED", 1));
    let own = OwnServers::start();
    let stage = Stage::on(own.servers.clone(), clips::cfr());
    let mut kept = roles(&stage);
    for one in &kept {
        stage.stack.until("a role is ready", || one.role.is_ready());
    }
    let (_, quiet) = through(&stage, jobs, &mut kept, |_| {});
    eprintln!("seed {seed}: {jobs} jobs take {:.1} s in peace", quiet.as_secs_f64());

    let (mut dice, mut kills, mut spared) = (Dice::new(seed, 0), Vec::new(), Vec::new());
    let servers = Restarting { own: &own, busy: Default::default() };
    let (made, stormy) = std::thread::scope(|scope| {
        through(&stage, jobs, &mut kept, |kept| {
            // Everybody's turn comes before anybody's second one.
            if spared.is_empty() {
                spared.extend(0..kept.len() + SERVERS.len());
            }
            let victim = spared.swap_remove(usize::try_from(dice.within(0..spared.len() as u64)).unwrap());
            let name = match kept.get_mut(victim) {
                Some(one) => {
                    one.restart();
                    one.name.clone()
                }
                None => {
                    let server = victim - kept.len();
                    // One that is being started already is as good as killed.
                    if !servers.busy[server].load(Ordering::SeqCst) {
                        servers.kill(server, scope);
                    }
                    SERVERS[server].to_owned()
                }
            };
            eprintln!("killed: {name}");
            kills.push(name);
        })
    });
    for one in &kept {
        stage.stack.until("a role is ready", || one.role.is_ready());
    }
    let report = report(&stage, &made, jobs, kept);
    let numbers = json!({
        "jobs": jobs, "seed": seed, "kills": kills.len(),
        "quiet_seconds": quiet.as_secs_f64(), "storm_seconds": stormy.as_secs_f64(),
        "overhead": stormy.as_secs_f64() / quiet.as_secs_f64() - 1.0,
    });
    let report = merged(numbers, report);
    eprintln!("{report:#}");
    if let Some(path) = std::env::var_os("SPLITREEL_STORM_REPORT") {
        std::fs::write(path, report.to_string()).unwrap();
    }
    assert_eq!(report["finished"], jobs);
    assert_eq!([&report["lost"], &report["duplicated"], &report["orphans"]], [0, 0, 0]);
    assert_eq!(report["bit_identical"], true);
}

fn merged(mut into: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut into, more) {
        into.extend(more);
    }
    into
}

/// What became of the jobs. Ends the roles.
fn report(stage: &Stage, made: &[String], jobs: u64, kept: Vec<Kept<'_>>) -> Value {
    let is_published = |job: &&String| {
        let query = format!("SELECT state FROM jobs WHERE id = '{job}' AND state = 'published'");
        !stage.stack.rows(&query).is_empty()
    };
    let published: Vec<&String> = made.iter().filter(is_published).collect();
    let differing: Vec<String> = published.iter().flat_map(|job| stage.differing(job)).collect();
    let twice: Vec<String> = made.iter().flat_map(|job| stage.twice(job)).collect();
    let events = made.iter().flat_map(|job| stage.events(job));
    let retries = events.filter(|event| event["event"] == "task_retried").count();
    let mut orphans = stage.strays_in_the_end();
    orphans.extend(stage.end(kept.into_iter().map(|k| k.role).collect(), &WORKERS));
    for what in differing.iter().chain(&twice).chain(&orphans) {
        eprintln!("wrong: {what}");
    }
    let finished = published.len() as u64;
    json!({
        "finished": finished, "lost": jobs - finished, "duplicated": twice.len(), "orphans": orphans.len(),
        "bit_identical": differing.is_empty() && finished == jobs, "retries": retries,
    })
}
