//! Coordinators and assemblers that are killed around each of their steps.

use super::stack::Stack;
use super::stage::{Held, Stage, Step, Trap};
use crate::clips;
use crate::structure::root;

#[test]
fn each_coordinator_may_be_killed_around_every_request() {
    let stage = Stage::new();
    let start = |number: usize| {
        let mut settings = stage.coordinating(number);
        settings.push(("SPLITREEL_LEASE_SECONDS", "3".to_owned()));
        stage.stack.role("coordinator", &settings)
    };
    let mut coordinators = [0, 1].map(|number| Some(start(number)));
    let packaging = stage.own_api();
    let worker = stage.worker("worker");
    let assembler = stage.assembler_over(&[("SPLITREEL_SERVER", packaging.endpoint())]);
    let api = &stage.api;
    let steps = [
        (api, Step::Submit),
        (api, Step::Claim),
        (api, Step::Grants),
        (api, Step::Complete),
        (api, Step::Claim),
        (api, Step::Grants),
        (api, Step::Complete),
        (&packaging, Step::Claim),
        (&packaging, Step::Complete),
    ];
    for (held, number) in [(Held::Request, 0), (Held::Request, 1), (Held::Answer, 0), (Held::Answer, 1)] {
        let all_to = |number| [api, &packaging].iter().for_each(|proxy| proxy.turn_to(number));
        let mut trap = Trap::set(api, Step::Submit, held, 0, 1);
        all_to(number);
        let job = std::thread::scope(|scope| {
            let submitting = scope.spawn(|| stage.submit());
            for (at, (_, step)) in steps.iter().enumerate() {
                trap.wait(&stage);
                // Set before the job goes on, so that it cannot slip by.
                let next = steps.get(at + 1).map(|(proxy, step)| Trap::set(proxy, *step, held, 0, 1));
                eprintln!("coordinator {number} dies at {step:?}, {held:?} held");
                coordinators[number].take().unwrap().kill();
                // Meanwhile the other one serves; what is stopped ends when all turn to this one again.
                coordinators[number] = Some(start(number));
                all_to(number);
                let Some(next) = next else { break };
                trap = next;
            }
            submitting.join().unwrap()
        });
        api.clear_rule();
        packaging.clear_rule();
        stage.published(&job);
    }
    let roles = coordinators.into_iter().flatten().chain([worker, assembler]).collect();
    stage.leave(roles, &["worker"]);
}

#[test]
fn an_assembler_may_be_killed_at_any_step() {
    let stage = Stage::new();
    let mut roles = vec![stage.coordinator(0), stage.worker("worker")];
    let jobs = [(); 4].map(|()| stage.submit());
    stage.stack.until("all is encoded", || {
        let ready = "SELECT job FROM tasks WHERE kind = 'assemble' AND state = 'ready'";
        stage.stack.rows(ready).len() == jobs.len()
    });
    let steps = [
        (Step::Claim, Held::Request),
        (Step::Claim, Held::Answer),
        (Step::Read, Held::Request),
        (Step::Upload, Held::Request),
        (Step::Upload, Held::Answer),
        (Step::Complete, Held::Request),
        (Step::Complete, Held::Answer),
    ];
    for (step, held) in steps {
        let (api, s3) = (stage.own_api(), stage.stack.proxy(vec![stage.stack.s3().address()]));
        let proxy = if matches!(step, Step::Read | Step::Upload) { &s3 } else { &api };
        let trap = Trap::set(proxy, step, held, 0, u64::MAX);
        let settings = [("SPLITREEL_SERVER", api.endpoint()), ("AWS_ENDPOINT_URL_S3", s3.endpoint())];
        let assembler = stage.assembler_over(&settings);
        trap.wait(&stage);
        eprintln!("the assembler dies at {step:?}, {held:?} held");
        assembler.kill();
        trap.lose();
    }
    roles.push(stage.assembler());
    for job in jobs {
        stage.published(&job);
    }
    stage.leave(roles, &["worker"]);
}

#[test]
fn an_assembler_that_is_killed_between_the_parts_of_a_large_file_leaves_no_upload() {
    let lossless = root().join("examples/profiles/lossless.toml").to_str().unwrap().to_owned();
    let stage = Stage::with(Stack::start(), &clips::noise(), lossless);
    let mut roles = vec![stage.coordinator(0), stage.worker("worker")];
    let s3 = stage.stack.proxy(vec![stage.stack.s3().address()]);
    let trap = Trap::set(&s3, Step::Piece, Held::Answer, 0, u64::MAX);
    let settings = [("SPLITREEL_SERVER", stage.api.endpoint()), ("AWS_ENDPOINT_URL_S3", s3.endpoint())];
    let assembler = stage.assembler_over(&settings);
    let job = stage.submit();
    trap.wait(&stage);
    assembler.kill();
    trap.lose();
    assert_eq!(stage.stack.s3().open_uploads().unwrap().len(), 1);
    roles.push(stage.assembler());
    stage.published(&job);
    stage.leave(roles, &["worker"]);
}
