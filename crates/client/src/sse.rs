//! Server-sent events (WHATWG HTML §9.2): a parser over bytes as they arrive. Pure.

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its `id`, if it had one.
    pub id: Option<String>,
    /// Its `event`; empty means `message`.
    pub event: String,
    /// Its `data`, lines joined by line feeds.
    pub data: String,
}

/// More than this in one event is an error.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// The stream is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {MAX_EVENT_BYTES} bytes")]
pub struct TooLarge;

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_cr: bool,
    current: SseEvent,
    has_data: bool,
    size: usize,
}

impl SseParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes; answers the events that they complete. Comments count as bytes only.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            let was_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if was_cr => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line), &mut events);
                }
                _ => {
                    self.line.push(byte);
                    self.size += 1;
                    if self.size > MAX_EVENT_BYTES {
                        return Err(TooLarge);
                    }
                }
            }
        }
        Ok(events)
    }

    fn take(&mut self, line: &str, events: &mut Vec<SseEvent>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.current);
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            self.size = 0;
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.current.data.push('\n');
                }
                self.has_data = true;
                self.current.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.current.event),
            "id" if !value.contains('\0') => self.current.id = Some(value.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 7\nevent: task\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\nevent: none\n\n\
                          retry: 10\ndata\n\n";

    fn expected() -> Vec<SseEvent> {
        vec![
            SseEvent { id: Some("7".into()), event: "task".into(), data: "{\"a\":\n1}".into() },
            SseEvent { data: "x".into(), ..SseEvent::default() },
            SseEvent::default(),
        ]
    }

    #[test]
    fn events_do_not_depend_on_where_the_bytes_are_cut() {
        for size in 1..STREAM.len() {
            let mut parser = SseParser::new();
            let found: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|c| parser.push(c).unwrap()).collect();
            assert_eq!(found, expected(), "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = SseParser::new();
        let piece = vec![b'x'; 64 << 10];
        let refused = (0..17).any(|_| parser.push(&piece).is_err());
        assert!(refused);
    }
}
