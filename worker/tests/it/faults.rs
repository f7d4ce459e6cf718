//! Faults of the network during a transfer: survived, or reported with the right code.

use crate::server::{Fault, Server};
use crate::station::fast;
use splitreel_backend::Ids;
use splitreel_backend::lease::SourceGrant;
use splitreel_core::plan::hex;
use splitreel_core::ranges::{Fetch, Need, Piece};
use splitreel_core::source::{ByteLayout, ByteRange, SourceRef};
use splitreel_core::task::Progress;
use splitreel_core::{Failure, FailureClass, LeaseId};
use splitreel_worker::source::{HttpOptions, HttpSources, LocalSource, SourceAccess, Sources};
use tokio::sync::watch;

const BYTES: u64 = 3_000_000;

fn data(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..BYTES).map(next).collect()
}

struct Bench {
    server: Server,
    sources: HttpSources,
    grant: SourceGrant,
    dir: tempfile::TempDir,
    progress: watch::Sender<Progress>,
}

impl Bench {
    async fn new() -> Bench {
        Bench::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut HttpOptions)) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(data(1)).await;
        let mut options = fast(dir.path());
        change(&mut options);
        let grant = SourceGrant {
            url: server.url.clone(),
            headers: vec![("x-grant".into(), "yes".into())],
            bytes: BYTES,
            etag: Some("\"v1\"".into()),
            sha256: None,
            expires_ms: i64::MAX,
        };
        let progress = watch::Sender::new(Progress::default());
        Bench { server, sources: HttpSources::new(options).unwrap(), grant, dir, progress }
    }

    async fn local(&self, need: &Need) -> Result<LocalSource, Failure> {
        let source = SourceRef { locator: "s3://bucket/film.mp4".into(), bytes: BYTES, version: "v1".into() };
        let lease = LeaseId(splitreel_backend::world::Machine.fresh());
        let grant = Some(&self.grant);
        self.sources.local(&SourceAccess { source: &source, grant, lease, need, progress: &self.progress }).await
    }

    fn num_files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("sources")).map_or(0, Iterator::count)
    }

    async fn failure(&self, need: &Need) -> Failure {
        let failure = match self.local(need).await {
            Err(failure) => failure,
            Ok(_) => panic!("it was fetched"),
        };
        assert_eq!(self.num_files(), 0, "{failure:?}");
        assert!(!failure.message.contains("secret"), "{failure:?}");
        failure
    }
}

fn piece(start: u64, end: u64, is_shared: bool) -> Piece {
    Piece { range: ByteRange { start, end }, is_shared }
}

fn need(layout: ByteLayout) -> Need {
    let pieces = vec![piece(0, 1000, true), piece(700_000, 2_200_000, false), piece(BYTES - 500, BYTES, true)];
    Need::Ranges(Fetch { source_bytes: BYTES, layout, pieces })
}

fn assert_sparse(local: &LocalSource) {
    let (found, wanted) = (std::fs::read(local.path()).unwrap(), data(1));
    assert_eq!(found.len(), wanted.len());
    for range in [0..1000, 700_000..2_200_000, wanted.len() - 500..wanted.len()] {
        assert!(found[range.clone()] == wanted[range.clone()], "{range:?}");
    }
    assert!(found[1000..700_000].iter().all(|byte| *byte == 0));
    assert!(!local.is_complete());
}

#[tokio::test]
async fn layouts_and_what_is_kept() {
    let bench = Bench::new().await;
    let sparse = bench.local(&need(ByteLayout::Sparse)).await.unwrap();
    assert_sparse(&sparse);
    assert_eq!((sparse.requests(), sparse.bytes_read()), (3, 1_501_500));
    // The shared ranges are not fetched again.
    let compact = bench.local(&need(ByteLayout::Compact)).await.unwrap();
    assert_eq!((compact.requests(), compact.bytes_read()), (1, 1_500_000));
    let wanted = data(1);
    let parts = [&wanted[..1000], &wanted[700_000..2_200_000], &wanted[wanted.len() - 500..]].concat();
    assert!(std::fs::read(compact.path()).unwrap() == parts);
    assert_eq!(bench.progress.borrow().done_per_mille, 100);
    drop((sparse, compact));
    assert_eq!(bench.num_files(), 0);
}

#[tokio::test]
async fn transfers_go_on_where_they_were_cut() {
    let bench = Bench::with(|options| options.parallel = 1).await;
    use Fault::{Cut, Silence, Stall, Status};
    let faults = [
        Cut(100),
        Status(503),
        Cut(0),
        Stall(300),
        Status(429),
        Silence,
        // Ends the first range.
        Cut(600),
        Cut(700_000),
        Stall(100_000),
        Status(500),
    ];
    bench.server.faults(&faults);
    let local = bench.local(&need(ByteLayout::Sparse)).await.unwrap();
    assert_sparse(&local);
    let (requests, sent) = bench.server.take_counts();
    assert_eq!(requests, faults.len() + 2);
    assert_eq!((local.requests() as usize, local.bytes_read()), (requests, sent));
    // Nothing that had arrived was sent twice.
    assert_eq!(sent, 1_501_500);
}

#[tokio::test]
async fn endless_trouble_is_given_up() {
    let bench = Bench::new().await;
    bench.server.faults(&[Fault::Status(503); 40]);
    let failure = bench.failure(&need(ByteLayout::Sparse)).await;
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Infra, "source_unavailable"));
    assert!(failure.message.contains("503"), "{}", failure.message);
}

#[tokio::test]
async fn a_replaced_source_is_never_mixed() {
    let bench = Bench::with(|options| options.parallel = 1).await;
    // Between two requests of one transfer.
    bench.server.faults(&[Fault::Cut(500)]);
    let local = bench.local(&need(ByteLayout::Sparse)).await.unwrap();
    drop(local);
    bench.server.replace(data(2), "\"v2\"");
    let failure = bench.failure(&need(ByteLayout::Sparse)).await;
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Source, "source_changed"));
    // A server that ignores conditions: the entity tag of the answer decides.
    let mut lax = Bench::new().await;
    lax.grant.headers.push(("if-match".into(), "\"v2\"".into()));
    lax.server.replace(data(2), "\"v2\"");
    assert_eq!(lax.failure(&need(ByteLayout::Sparse)).await.code, "source_changed");
}

#[tokio::test]
async fn a_shorter_object_is_another_one() {
    for need in [need(ByteLayout::Sparse), Need::Whole, Need::Tables] {
        let bench = Bench::new().await;
        let mut short = data(1);
        short.truncate(2_000_000);
        bench.server.replace(short, "\"v1\"");
        let failure = bench.failure(&need).await;
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Source, "source_changed"), "{need:?}");
    }
}

#[tokio::test]
async fn answers_that_end_an_attempt() {
    for (status, class, code) in [
        (403, FailureClass::Infra, "grant_expired"),
        (401, FailureClass::Infra, "grant_expired"),
        (404, FailureClass::Source, "not_found"),
        (302, FailureClass::Infra, "source_refused"),
        (400, FailureClass::Infra, "source_refused"),
    ] {
        let bench = Bench::new().await;
        bench.server.faults(&[Fault::Status(status); 3]);
        let failure = bench.failure(&need(ByteLayout::Sparse)).await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{status}");
    }
    let bench = Bench::new().await;
    bench.server.faults(&[Fault::OtherBytes; 3]);
    assert_eq!(bench.failure(&need(ByteLayout::Sparse)).await.code, "source_answer");
}

#[tokio::test]
async fn servers_without_ranges_send_everything_once() {
    let bench = Bench::with(|options| options.parallel = 1).await;
    bench.server.faults(&[Fault::WholeObject; 2]);
    let local = bench.local(&need(ByteLayout::Sparse)).await.unwrap();
    assert!(local.is_complete());
    assert!(std::fs::read(local.path()).unwrap() == data(1));
}

#[tokio::test]
async fn whole_sources_are_shared_and_checked() {
    let mut bench = Bench::new().await;
    bench.grant.sha256 = Some(hex(&{
        use sha2::Digest;
        sha2::Sha256::digest(data(1))
    }));
    let (a, b) = tokio::join!(bench.local(&Need::Whole), bench.local(&Need::Whole));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.path(), b.path());
    assert_eq!((a.requests() + b.requests(), bench.num_files()), (1, 1));
    drop(a);
    assert!(std::fs::read(b.path()).unwrap() == data(1));
    drop(b);
    assert_eq!(bench.num_files(), 0);
    bench.grant.sha256 = Some("0".repeat(64));
    assert_eq!(bench.failure(&Need::Whole).await.code, "source_damaged");
}

#[tokio::test]
async fn scratch_space_is_bounded() {
    let bench = Bench::with(|options| options.scratch_bytes = 2 << 20).await;
    let failure = bench.failure(&Need::Whole).await;
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Infra, "no_space"));
    assert!(failure.message.contains("scratch_bytes"));
    // Holes take no space.
    assert_sparse(&bench.local(&need(ByteLayout::Sparse)).await.unwrap());
}

#[tokio::test]
async fn a_transfer_that_is_dropped_leaves_nothing() {
    let bench = Bench::with(|options| options.stall = std::time::Duration::from_secs(60)).await;
    bench.server.faults(&[Fault::Stall(10); 3]);
    let need = need(ByteLayout::Sparse);
    let mut fetching = Box::pin(bench.local(&need));
    // Requests are under way; none of them ever completes.
    let waiting = async {
        while bench.server.conditions().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut fetching => panic!("it was fetched"),
        () = waiting => {}
    }
    assert_eq!(bench.num_files(), 1);
    drop(fetching);
    assert_eq!(bench.num_files(), 0);
}
