//! Byte ranges (RFC 9110 §14): one range of a file, or all of it. Pure.

/// What a Range header asks of a file of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no range, or one that is not understood and therefore left out of account.
    Whole,
    /// From the first to before the last byte.
    Part { start: u64, end: u64 },
    /// Nothing that the file has.
    Outside,
}

/// Reads a Range header. Several ranges are answered with the whole file, as a server may.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else { return Wanted::Whole };
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            None => Wanted::Whole,
            Some(0) => Wanted::Outside,
            Some(_) if size == 0 => Wanted::Outside,
            Some(n) => Wanted::Part { start: size.saturating_sub(n), end: size },
        },
        (first, last) => {
            let Some(start) = number(first) else { return Wanted::Whole };
            let end = match (last, number(last)) {
                ("", _) => size,
                (_, Some(last)) if last >= start => last.saturating_add(1).min(size),
                _ => return Wanted::Whole,
            };
            if start >= size { Wanted::Outside } else { Wanted::Part { start, end } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        let part = |start, end| Wanted::Part { start, end };
        let cases = [
            (None, Wanted::Whole),
            (Some("bytes=0-499"), part(0, 500)),
            (Some("bytes=500-999"), part(500, 1000)),
            (Some("bytes=-500"), part(500, 1000)),
            (Some("bytes=9500-"), Wanted::Outside),
            (Some("bytes=0-"), part(0, 1000)),
            (Some("bytes=0-99999999999999999999999"), part(0, 1000)),
            (Some("bytes=-5000"), part(0, 1000)),
            (Some("bytes=-0"), Wanted::Outside),
            (Some("bytes=5-4"), Wanted::Whole),
            (Some("bytes=0-1,5-6"), Wanted::Whole),
            (Some("bytes=+1-2"), Wanted::Whole),
            (Some("bytes=-"), Wanted::Whole),
            (Some("seconds=1-2"), Wanted::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(wanted(header, 1000), expected, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Outside);
    }

    proptest! {
        #[test]
        fn no_header_asks_for_what_is_not_there(header in "bytes=[0-9 ,+-]{0,24}", size in 0u64..2_000) {
            if let Wanted::Part { start, end } = wanted(Some(&header), size) {
                prop_assert!(start < end && end <= size);
            }
        }
    }
}
