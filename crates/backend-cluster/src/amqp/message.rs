//! Wire format of messages: JSON and a few headers. Knows no connection.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use splitreel_backend::doorbell::{Queue, Wakeup};
use splitreel_core::Trace;

/// Largest body of a wakeup, in bytes.
pub(super) const MAX_WAKEUP_BYTES: usize = 1024;

/// A message to be published.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
    /// Whether the broker returns a message without a bound queue; otherwise it drops the message.
    pub is_mandatory: bool,
}

impl Message {
    /// Persistent, with an id by which a returned message is recognised.
    pub(super) fn properties(&self, id: u64) -> BasicProperties {
        const PERSISTENT: u8 = 2;
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
        }
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(id.to_string().into())
            .with_headers(headers)
    }
}

/// Headers that carry the trace of a wakeup to other programs (W3C Trace Context).
pub(super) fn trace_headers(trace: &Trace) -> Vec<(String, String)> {
    trace.as_str().map(|line| ("traceparent".to_owned(), line.to_owned())).into_iter().collect()
}

/// Parses a wakeup and checks that it belongs to this queue.
pub(super) fn decode(body: &[u8], queue: Queue) -> Result<Wakeup, String> {
    if body.len() > MAX_WAKEUP_BYTES {
        return Err(format!("{} bytes", body.len()));
    }
    let wakeup: Wakeup = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if wakeup.queue() == queue { Ok(wakeup) } else { Err("on the wrong queue".to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

    use super::*;
    use splitreel_backend::conformance::fixture::wakeup;
    use splitreel_core::task::TaskKind;

    #[test]
    fn a_ring_survives_the_wire() {
        let mut widest = wakeup(u128::MAX, u32::MAX);
        widest.attempt = u32::MAX;
        widest.trace = Trace::new(Some("x".repeat(128)));
        let body = serde_json::to_vec(&widest).unwrap();
        assert!(body.len() < MAX_WAKEUP_BYTES / 2, "{}", body.len());
        let back = decode(&body, Queue::Work).unwrap();
        assert_eq!((back.trace.as_str(), &back), (widest.trace.as_str(), &widest));
    }

    #[test]
    fn what_is_not_a_ring_of_this_queue_is_refused() {
        let body = serde_json::to_vec(&wakeup(1, 1)).unwrap();
        let assemble = Wakeup { kind: TaskKind::Assemble, ..wakeup(1, 1) };
        assert!(decode(&serde_json::to_vec(&assemble).unwrap(), Queue::Work).is_err());
        assert!(decode(&body, Queue::Assemble).is_err());
        assert!(decode(b"", Queue::Work).is_err());
        assert!(decode(b"\xff\x00{}", Queue::Work).is_err());
        assert!(decode(&body[..body.len() - 1], Queue::Work).is_err());
        let long = [body.as_slice(), &[b' '; MAX_WAKEUP_BYTES]].concat();
        assert!(serde_json::from_slice::<Wakeup>(&long).is_ok(), "else the next line would not test the length");
        assert!(decode(&long, Queue::Work).is_err());
    }
}
