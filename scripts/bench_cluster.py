"""Measures the coordination of a cluster: real coordinators, Postgres and RabbitMQ, and workers that wait instead of
encoding (cli/examples/fake_fleet). `scripts/bench cluster` is the way in."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ADMIN, WORK = (secrets.token_hex(16) for _ in range(2))
PREFIX = "bench"
SCENARIOS = ("latency", "throughput", "efficiency_100", "efficiency_1000", "fairness", "backlog")
WAVES = 10


class Stage:
    """Services, the S3 server and the coordinators; ends what it started."""

    def __init__(self, root, target, coordinators, say):
        self.root, self.say = root, say
        release = target / "release"
        self.binaries = {name: release / path for name, path in
                         {"splitreel": "splitreel", "s3": "s3-server", "fleet": "examples/fake_fleet"}.items()}
        missing = [str(p) for p in self.binaries.values() if not p.is_file()]
        if missing:
            raise SystemExit(f"bench: {', '.join(missing)}: not there; build with: cargo build --release --workspace "
                             "--bins --example fake_fleet")
        self.number = coordinators
        self.started = []
        self.logs = []

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def start(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="splitreel-bench.")
        self.dir = Path(self.scratch.name)
        services = self.dir / "services"
        # Servers from the environment would be somebody's, and of unknown durability.
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SPLITREEL_TEST_")}
        self.services = [str(self.root / "scripts/services"), "--dir", str(services)]
        subprocess.run([*self.services, "start", "--durable"], check=True, env=clean)
        text = subprocess.run([*self.services, "env"], check=True, env=clean, capture_output=True, text=True).stdout
        found = dict(word.split("=", 1) for word in text.replace("\\", "").split() if "=" in word)
        self.database, self.amqp = found["SPLITREEL_TEST_DATABASE_URL"], found["SPLITREEL_TEST_AMQP_URL"]
        state = dict(line.split(" ", 1) for line in (services / "state").read_text("utf-8").splitlines())
        self.pids = {"postgres": [state["postgres.pid"]], "broker": [state["rabbitmq.pid"]]}

        (self.dir / "s3").mkdir()
        port = free_port()
        keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
        self.run(["s3", "--listen", f"127.0.0.1:{port}", "--root", str(self.dir / "s3"),
                  "--bucket", "work", "--bucket", "sources"], keys)
        self.environment = {
            **keys, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "SPLITREEL_S3_BUCKET": "work",
            "DATABASE_URL": self.database, "AMQP_URL": self.amqp, "SPLITREEL_QUEUE_PREFIX": PREFIX,
            "SPLITREEL_SIGNING_KEY": secrets.token_hex(32), "SPLITREEL_ADMIN_TOKEN": ADMIN, "SPLITREEL_WORK_TOKEN": WORK,
            "RUST_LOG": "warn",
        }
        wait_for(lambda: (self.dir / "s3/sources").is_dir(), "the S3 server")
        apis = [free_port() for _ in range(self.number)]
        for api in apis:
            ops = free_port()
            process = self.run(["splitreel", "coordinator", "--listen", f"127.0.0.1:{api}",
                                "--ops-listen", f"127.0.0.1:{ops}"], self.environment)
            self.pids.setdefault("coordinator", []).append(str(process.pid))
            wait_for(lambda ops=ops: is_ready(ops), "a coordinator")
        self.api = f"http://127.0.0.1:{apis[0]}"
        return self

    def run(self, command, more):
        name, *arguments = command
        log = self.dir / f"{name}-{len(self.started)}.log"
        self.logs.append(log)
        with log.open("w") as out:
            process = subprocess.Popen([str(self.binaries[name]), *arguments], stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, env={"PATH": os.environ["PATH"], "HOME": str(self.dir), **more})
        self.started.append(process)
        return process

    def measure(self, scenario, slots, segments, task_ms):
        for size in {segments, 1, 2, 20, 100, 1_000, 3_000, 50_000}:
            (self.dir / f"s3/sources/film-{size}.mp4").write_bytes(b"a film")
        command = [str(self.binaries["fleet"]), scenario, "--slots", str(slots), "--segments", str(segments),
                   "--task-ms", str(task_ms), "--server", self.api]
        for name, pids in self.pids.items():
            command += ["--watch", f"{name}={','.join(pids)}"]
        done = subprocess.run(command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode:
            tails = "\n".join(f"--- {log}\n" + "".join(log.read_text("utf-8", "replace").splitlines(True)[-15:])
                              for log in self.logs)
            raise SystemExit(f"bench: {scenario} failed\n{tails}")
        figures = json.loads(done.stdout)
        self.say(f"{scenario}: {json.dumps(figures)}")
        return figures

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if hasattr(self, "services"):
            subprocess.run([*self.services, "stop"], check=False)
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_for(check, what):
    deadline = time.monotonic() + 60
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {what} does not get ready")
        time.sleep(0.05)


def cluster(options, root, target, machine, say):
    wanted = options.only.split(",") if options.only else list(SCENARIOS)
    unknown = set(wanted) - set(SCENARIOS)
    if unknown:
        raise SystemExit(f"bench: --only takes {', '.join(SCENARIOS)}")
    details = {}
    # What was started ends with this, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Stage(root, target, options.coordinators, say) as stage:
        for name in wanted:
            details[name] = {
                "latency": lambda: stage.measure("latency", 8, 1, 0),
                "throughput": lambda: stage.measure("throughput", 512, options.segments, 0),
                "efficiency_100": lambda: stage.measure("efficiency", 100, 100 * WAVES, 2_000),
                "efficiency_1000": lambda: stage.measure("efficiency", 1_000, 1_000 * WAVES, 2_000),
                "fairness": lambda: stage.measure("fairness", 20, 1, 200),
                "backlog": lambda: stage.measure("backlog", 16, options.waiting, 0),
            }[name]()

    def figure(scenario, *path):
        value = details.get(scenario)
        for key in path:
            value = value[key] if value else None
        return value

    result = {
        "segments_per_s": figure("throughput", "segments_per_s"),
        "coordinator_ms_per_segment": figure("throughput", "cpu_ms_per_segment", "coordinator"),
        "efficiency_100": figure("efficiency_100", "efficiency"),
        "efficiency_1000": figure("efficiency_1000", "efficiency"),
        "claim_p50_ms": figure("latency", "claim_p50_ms"),
        "start_ratio": figure("fairness", "start_ratio"),
        "backlog_claim_ratio": figure("backlog", "claim_ratio"),
        "backlog_cancel_ratio": figure("backlog", "cancel_ratio"),
    }
    goals = {
        "segments_per_s": "at least 1000", "coordinator_ms_per_segment": "at most 0.5", "efficiency_100": "at least 0.98",
        "efficiency_1000": "at least 0.95", "claim_p50_ms": "at most 10", "start_ratio": "at most 2",
        "backlog_claim_ratio": "about 1", "backlog_cancel_ratio": "about 1",
    }
    if options.json:
        print(json.dumps({**result, "coordinators": options.coordinators, "machine": machine, "details": details}, indent=1))
        return
    for name, value in result.items():
        print(f"{name:27} {'not measured' if value is None else value}   (goal: {goals[name]})")
