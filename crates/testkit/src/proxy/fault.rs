//! Faults of requests, and the rules that choose them: pure, so that a seed replays.

use crate::dice::Dice;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A request as rules see it, before anything of it is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Counts all requests of the proxy since the last reset, from 0.
    pub number: u64,
    /// How many requests with the same method and path came before.
    pub earlier: u64,
    /// Method.
    pub method: String,
    /// Path as it was sent, percent-encoded.
    pub path: String,
    /// What follows the `?`, as it was sent; empty without one.
    pub query: String,
    /// Headers in the order of the request; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Exchange {
    /// The first value of a header, which is named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the query has this parameter, with or without a value.
    pub fn has_query(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

/// Holds requests or answers back until they are let through or cut. Clones share the gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(watch::Sender<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    seen: u64,
    fate: Option<Result<(), ErrorKind>>,
}

impl Gate {
    /// Lets through all waiting and later requests or answers.
    pub fn open(&self) {
        self.0.send_modify(|waiting| waiting.fate = Some(Ok(())));
    }

    /// Ends the connections of all waiting and later requests or answers.
    pub fn cut(&self) {
        self.0.send_modify(|waiting| waiting.fate = Some(Err(ErrorKind::ConnectionAborted)));
    }

    /// Number of requests or answers that arrived. An answer arrives after its request was carried out.
    pub fn num_seen(&self) -> u64 {
        self.0.borrow().seen
    }

    pub(super) async fn passed(&self) -> io::Result<()> {
        let mut waiting = self.0.subscribe();
        self.0.send_modify(|waiting| waiting.seen += 1);
        // The sender is held by this very gate.
        let Ok(decided) = waiting.wait_for(|waiting| waiting.fate.is_some()).await else { return Ok(()) };
        decided.fate.unwrap_or(Ok(())).map_err(io::Error::from)
    }
}

/// The same gate, not one in the same state.
impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Gate {}

/// What happens to a request. Numbers of bytes count the payload of the body named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The request is passed on late.
    Delay(Duration),
    /// The request is passed on when the gate opens.
    Hold(Gate),
    /// The request is carried out, and answered when the gate opens.
    HoldAnswer(Gate),
    /// The request is not passed on; the client gets this answer.
    Refuse {
        /// HTTP status.
        status: u16,
        /// Error code in an S3 error document.
        code: &'static str,
    },
    /// The request is carried out, but the client gets this answer instead of the server's.
    ApplyThenFail {
        /// HTTP status.
        status: u16,
    },
    /// The request is carried out, but the connection ends without an answer.
    ApplyThenCut,
    /// Both connections end after `after` bytes of the request's body.
    CutRequest {
        /// Bytes that get through.
        after: u64,
    },
    /// The client's connection ends after `after` bytes of the answer's body.
    CutAnswer {
        /// Bytes that get through.
        after: u64,
    },
    /// The answer pauses after `after` bytes of its body (before its head when 0), then continues.
    Stall {
        /// Bytes before the pause.
        after: u64,
        /// How long it lasts.
        pause: Duration,
    },
    /// The answer's body ends after `after` bytes, and its head announces this length.
    Truncate {
        /// Bytes that get through.
        after: u64,
    },
}

/// Decides about each request.
pub type Rule = Arc<dyn Fn(&Exchange) -> Fault + Send + Sync>;

/// How often each fault happens, in ten-thousandths of all requests; what is left passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// 5 to 200 ms late.
    pub delay: u32,
    /// Answered by 503.
    pub refuse: u32,
    /// Carried out, then answered by 500.
    pub apply_then_fail: u32,
    /// Carried out, then no answer.
    pub apply_then_cut: u32,
    /// Broken off within the first 64 KiB of the request.
    pub cut_request: u32,
    /// Broken off within the first 64 KiB of the answer.
    pub cut_answer: u32,
    /// Paused within the first 64 KiB of the answer.
    pub stall: u32,
    /// How long a pause lasts.
    pub stall_pause: Duration,
}

impl Mix {
    /// A bad day: about one request in eight suffers, pauses last `stall_pause`.
    pub fn rough(stall_pause: Duration) -> Self {
        Mix {
            delay: 300,
            refuse: 300,
            apply_then_fail: 150,
            apply_then_cut: 150,
            cut_request: 150,
            cut_answer: 150,
            stall: 50,
            stall_pause,
        }
    }
}

/// A rule that draws from a mix. The same seed gives the same fault to the request with the same number.
pub fn seeded(seed: u64, mix: Mix) -> impl Fn(&Exchange) -> Fault + Send + Sync + 'static {
    move |exchange| {
        let mut dice = Dice::new(seed, exchange.number);
        let (mut drawn, after) = (dice.within(0..10_000), dice.within(0..65_536));
        let mut hits = |share: u32| {
            let hit = drawn < u64::from(share);
            drawn = drawn.wrapping_sub(u64::from(share));
            hit
        };
        match () {
            () if hits(mix.delay) => Fault::Delay(dice.millis(5..200)),
            () if hits(mix.refuse) => Fault::Refuse { status: 503, code: "SlowDown" },
            () if hits(mix.apply_then_fail) => Fault::ApplyThenFail { status: 500 },
            () if hits(mix.apply_then_cut) => Fault::ApplyThenCut,
            () if hits(mix.cut_request) => Fault::CutRequest { after },
            () if hits(mix.cut_answer) => Fault::CutAnswer { after },
            () if hits(mix.stall) => Fault::Stall { after, pause: mix.stall_pause },
            () => Fault::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64) -> Exchange {
        Exchange {
            number,
            earlier: 0,
            method: "GET".to_owned(),
            path: "/b/k".to_owned(),
            query: "partNumber=2&uploads".to_owned(),
            headers: vec![("range".to_owned(), "bytes=0-1".to_owned())],
        }
    }

    #[test]
    fn queries_and_headers_are_found_by_name() {
        let request = request(0);
        assert!(request.has_query("uploads") && request.has_query("partNumber") && !request.has_query("part"));
        assert_eq!(request.header("range"), Some("bytes=0-1"));
        assert_eq!(request.header("host"), None);
    }

    #[test]
    fn a_seed_replays_and_its_mix_holds() {
        let mix = Mix::rough(Duration::from_secs(1));
        let (rule, again, other) = (seeded(7, mix), seeded(7, mix), seeded(8, mix));
        let faults: Vec<Fault> = (0..10_000).map(|n| rule(&request(n))).collect();
        assert_eq!(faults, (0..10_000).map(|n| again(&request(n))).collect::<Vec<_>>());
        assert_ne!(faults, (0..10_000).map(|n| other(&request(n))).collect::<Vec<_>>());
        let spared = faults.iter().filter(|fault| **fault == Fault::None).count();
        assert!((8_550..8_950).contains(&spared), "{spared}");
        let refused = faults.iter().filter(|fault| matches!(fault, Fault::Refuse { .. })).count();
        assert!((230..370).contains(&refused), "{refused}");
    }

    #[test]
    fn an_empty_mix_spares_all() {
        let rule = seeded(1, Mix::default());
        assert!((0..1_000).all(|n| rule(&request(n)) == Fault::None));
    }
}
