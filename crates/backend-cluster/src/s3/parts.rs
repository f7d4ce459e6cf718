//! How a large object is put together: which parts are copied by the server and which bytes have to be moved.
//! Pure: it plans, others do.

use super::locator::S3Locator;
use bytes::Bytes;

/// No part but the last is smaller (S3 API reference, "Amazon S3 multipart upload limits").
pub(super) const MIN_PART_BYTES: u64 = 5 << 20;
/// No upload has more parts.
pub(super) const MAX_PARTS: usize = 10_000;
/// One request copies no more.
pub(super) const MAX_COPY_BYTES: u64 = 5 << 30;

/// What an object is put together from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// These bytes.
    Bytes(Bytes),
    /// A whole object of this size.
    Object { from: S3Locator, bytes: u64 },
    /// A whole local file of this size.
    File { bytes: u64 },
}

impl Origin {
    pub fn bytes(&self) -> u64 {
        match self {
            Origin::Bytes(bytes) => bytes.len() as u64,
            Origin::Object { bytes, .. } | Origin::File { bytes } => *bytes,
        }
    }
}

/// A range of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Index of the origin.
    pub origin: usize,
    pub offset: u64,
    pub len: u64,
}

/// A part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Copied by the server.
    Copy(Span),
    /// Read and sent by us.
    Send(Vec<Span>),
}

/// Sizes to plan with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Size of parts that are sent: bounds memory.
    pub part: u64,
    /// The server can copy ranges of objects.
    pub can_copy: bool,
    /// Largest copied range.
    pub max_copy: u64,
    pub max_parts: usize,
}

struct Builder<'a> {
    limits: &'a Limits,
    /// Size of sent parts here.
    part: u64,
    parts: Vec<Part>,
    pending: Vec<Span>,
    pending_len: u64,
}

impl Builder<'_> {
    fn flush(&mut self) {
        if self.pending_len > 0 {
            self.parts.push(Part::Send(std::mem::take(&mut self.pending)));
            self.pending_len = 0;
        }
    }

    fn send(&mut self, origin: usize, mut offset: u64, mut len: u64) {
        while len > 0 {
            let take = len.min(self.part - self.pending_len);
            self.pending.push(Span { origin, offset, len: take });
            self.pending_len += take;
            offset += take;
            len -= take;
            if self.pending_len == self.part {
                self.flush();
            }
        }
    }

    fn copy(&mut self, origin: usize, mut offset: u64, len: u64) {
        let num = len.div_ceil(self.limits.max_copy).max(1);
        let each = len.div_ceil(num);
        let end = offset + len;
        while offset < end {
            let len = each.min(end - offset);
            self.parts.push(Part::Copy(Span { origin, offset, len }));
            offset += len;
        }
    }

    /// An object that is worth copying. What is pending before it is first filled up from its beginning.
    fn copy_after_pending(&mut self, origin: usize, len: u64) {
        if self.pending_len >= MIN_PART_BYTES {
            self.flush();
        }
        let missing = if self.pending_len == 0 { 0 } else { MIN_PART_BYTES - self.pending_len };
        if len.saturating_sub(missing) < MIN_PART_BYTES {
            return self.send(origin, 0, len);
        }
        self.send(origin, 0, missing);
        self.flush();
        self.copy(origin, missing, len - missing);
    }
}

/// The parts, in order: all but the last at least [`MIN_PART_BYTES`] long, at most `max_parts`, together exactly the
/// origins. Objects that are large enough are copied; the rest is sent in parts of `part` bytes, more when there
/// would be too many.
pub(super) fn plan(origins: &[Origin], limits: &Limits) -> Vec<Part> {
    let total: u64 = origins.iter().map(Origin::bytes).sum();
    let roomy = (limits.max_parts as u64 * 9 / 10).max(1);
    let part = limits.part.max(MIN_PART_BYTES).max(total.div_ceil(roomy));
    let mut copy_from = if limits.can_copy { MIN_PART_BYTES } else { u64::MAX };
    loop {
        let mut builder = Builder { limits, part, parts: Vec::new(), pending: Vec::new(), pending_len: 0 };
        for (index, origin) in origins.iter().enumerate() {
            match origin {
                Origin::Object { bytes, .. } if *bytes >= copy_from => builder.copy_after_pending(index, *bytes),
                _ => builder.send(index, 0, origin.bytes()),
            }
        }
        builder.flush();
        if builder.parts.len() <= limits.max_parts || copy_from == u64::MAX {
            return builder.parts;
        }
        // Objects just large enough to be copied make the most parts: joining them needs fewer.
        copy_from = copy_from.saturating_mul(2);
        if copy_from > total {
            copy_from = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMITS: Limits = Limits { part: 8 * MIB, can_copy: true, max_copy: MAX_COPY_BYTES, max_parts: MAX_PARTS };

    fn object(bytes: u64) -> Origin {
        Origin::Object { from: S3Locator::new("work", "k").unwrap(), bytes }
    }

    fn literal(bytes: usize) -> Origin {
        Origin::Bytes(Bytes::from(vec![0; bytes]))
    }

    fn sizes(parts: &[Part]) -> Vec<(char, u64)> {
        parts
            .iter()
            .map(|part| match part {
                Part::Copy(span) => ('c', span.len),
                Part::Send(spans) => ('s', spans.iter().map(|span| span.len).sum()),
            })
            .collect()
    }

    /// What every plan must be.
    fn check(origins: &[Origin], limits: &Limits) -> Vec<Part> {
        let parts = plan(origins, limits);
        let mut at = origins.iter().enumerate().map(|(i, o)| (i, 0, o.bytes())).collect::<Vec<_>>().into_iter();
        let mut current = at.next();
        let spans = parts.iter().flat_map(|part| match part {
            Part::Copy(span) => std::slice::from_ref(span),
            Part::Send(spans) => spans.as_slice(),
        });
        for span in spans {
            while let Some((_, offset, bytes)) = current
                && offset == bytes
            {
                current = at.next();
            }
            let (origin, offset, bytes) = current.unwrap();
            assert_eq!((span.origin, span.offset), (origin, offset));
            assert!(span.len > 0 && offset + span.len <= bytes);
            current = Some((origin, offset + span.len, bytes));
        }
        assert!(current.is_none_or(|(_, offset, bytes)| offset == bytes) && at.all(|(.., bytes)| bytes == 0));
        assert!(parts.len() <= limits.max_parts);
        for (_, size) in sizes(&parts).iter().rev().skip(1) {
            assert!(*size >= MIN_PART_BYTES, "{:?}", sizes(&parts));
        }
        for part in &parts {
            let Part::Copy(span) = part else { continue };
            assert!(limits.can_copy && span.len <= limits.max_copy);
            // A range can only be copied from an object that is larger than a part.
            assert!(origins[span.origin].bytes() >= MIN_PART_BYTES);
        }
        parts
    }

    #[test]
    fn large_objects_are_copied_whole() {
        let parts = check(&[object(6 * MIB), object(6 * MIB), object(6 * MIB)], &LIMITS);
        assert_eq!(sizes(&parts), [('c', 6 * MIB), ('c', 6 * MIB), ('c', 6 * MIB)]);
    }

    #[test]
    fn a_small_head_is_filled_up_from_what_follows() {
        let parts = check(&[literal(1000), object(20 * MIB), object(1), object(9 * MIB)], &LIMITS);
        // What is left of the last object after filling up the part before it would be too small to be copied.
        assert_eq!(sizes(&parts), [('s', 5 * MIB), ('c', 15 * MIB + 1000), ('s', 8 * MIB), ('s', MIB + 1)]);
    }

    #[test]
    fn small_objects_are_sent_joined() {
        let parts = check(&vec![object(MIB); 20], &LIMITS);
        assert_eq!(sizes(&parts), [('s', 8 * MIB), ('s', 8 * MIB), ('s', 4 * MIB)]);
    }

    #[test]
    fn nothing_makes_no_part() {
        assert!(check(&[], &LIMITS).is_empty());
        assert!(check(&[literal(0), object(0)], &LIMITS).is_empty());
    }

    #[test]
    fn huge_objects_are_copied_in_ranges() {
        let parts = check(&[object(11 << 30)], &LIMITS);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| matches!(part, Part::Copy(_))));
    }

    #[test]
    fn a_server_that_cannot_copy_gets_bytes() {
        let parts = check(&[object(20 * MIB)], &Limits { can_copy: false, ..LIMITS });
        assert_eq!(sizes(&parts), [('s', 8 * MIB), ('s', 8 * MIB), ('s', 4 * MIB)]);
    }

    #[test]
    fn too_many_parts_are_joined() {
        let parts = check(&vec![object(5 * MIB); 25_000], &LIMITS);
        assert!(parts.len() > 5_000, "{}", parts.len());
        check(&vec![object(11 * MIB); 12_000], &LIMITS);
    }

    #[test]
    fn files_are_sent_in_parts() {
        let parts = check(&[Origin::File { bytes: 17 * MIB }], &LIMITS);
        assert_eq!(sizes(&parts), [('s', 8 * MIB), ('s', 8 * MIB), ('s', MIB)]);
    }

    /// Random origins from a small generator of its own.
    #[test]
    fn any_origins_make_a_valid_plan() {
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..2_000 {
            let limits = Limits {
                part: MIN_PART_BYTES + draw(4) * MIB,
                can_copy: draw(4) > 0,
                max_copy: 10 * MIB + draw(20 * MIB),
                max_parts: 40 + usize::try_from(draw(100)).unwrap(),
            };
            let origins: Vec<Origin> = (0..draw(30))
                .map(|_| match draw(5) {
                    0 => literal(usize::try_from(draw(3000)).unwrap()),
                    1 => object(draw(100)),
                    2 => object(draw(5 * MIB)),
                    3 => object(MIN_PART_BYTES - 1 + draw(3)),
                    _ => object(draw(64 * MIB)),
                })
                .collect();
            check(&origins, &limits);
        }
    }
}
