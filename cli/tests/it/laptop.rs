//! A program that was built without the feature `cluster`: what it lacks, it names.

use crate::reel::{Reel, bare, finish};

#[test]
fn the_commands_of_a_cluster_say_how_to_get_them() {
    for command in ["coordinator", "worker", "assembler"] {
        finish(bare().args([command, "--slots", "2", "--anything=else"]))
            .refused(2, &[&format!("splitreel {command} is not in this build"), "cargo build", "packaged"]);
    }
    let reel = Reel::new();
    finish(reel.command("migrate").env("DATABASE_URL", "postgres://user:hidden@localhost/db"))
        .refused(2, &["postgres", "not in this build", "cargo build"]);
}

#[test]
fn version_help_and_doctor_say_which_build_it_is() {
    assert!(finish(bare().arg("--version")).done().stdout.contains("(without cluster)"));
    let help = finish(bare().arg("--help")).done().stdout;
    assert!(help.starts_with("This build runs on one machine"), "{help}");
    assert_eq!(help.matches("Not in this build").count(), 3, "{help}");
    let reel = Reel::new();
    let found = finish(reel.command("doctor").arg("--json")).done().stdout;
    assert!(found.contains("\"cluster\": false"), "{found}");
    assert!(finish(&mut reel.command("doctor")).done().stdout.contains("This build runs on one machine"));
}

#[test]
fn an_address_of_a_collector_does_not_keep_it_from_working() {
    let reel = Reel::new();
    let clip = crate::clips::cfr();
    let mut run = reel.command("run");
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").args(["-v", "--profile"]).arg(crate::reel::lossless());
    let ended = finish(run.arg("-o").arg(reel.path("out")).arg("--").arg(clip)).done();
    assert!(ended.stderr.contains("traces are not exported"), "{}", ended.stderr);
}
