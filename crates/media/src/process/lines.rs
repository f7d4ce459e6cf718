//! Bounded line handling: splits a byte stream into lines of limited length, and keeps the last lines of a stream.

use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Splits a stream into lines. The part of a line beyond the limit is dropped.
pub(super) struct LineSplitter {
    line: Vec<u8>,
    max_bytes: usize,
}

impl LineSplitter {
    pub(super) fn new(max_bytes: usize) -> Self {
        LineSplitter { line: Vec::new(), max_bytes }
    }

    /// Hands on the lines that `block` completes. A carriage return ends a line too: ffmpeg uses it for status lines.
    pub(super) fn push(
        &mut self,
        block: &[u8],
        sink: &mut (impl FnMut(&[u8]) -> ControlFlow<()> + ?Sized),
    ) -> ControlFlow<()> {
        let mut rest = block;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, tail) = rest.split_at(end);
            self.extend(head);
            rest = tail.get(1..).unwrap_or(&[]);
            if !self.line.is_empty() {
                sink(&self.line)?;
            }
            self.line.clear();
        }
        self.extend(rest);
        ControlFlow::Continue(())
    }

    /// Hands on what follows the last line end.
    pub(super) fn finish(&mut self, sink: &mut (impl FnMut(&[u8]) -> ControlFlow<()> + ?Sized)) {
        if !self.line.is_empty() {
            let _ = sink(&self.line);
            self.line.clear();
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = self.max_bytes.saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or(&[]));
    }
}

/// The last lines of a stream.
pub(super) struct Tail {
    splitter: LineSplitter,
    lines: VecDeque<String>,
    max_lines: usize,
    max_chars: usize,
}

impl Tail {
    pub(super) fn new(max_lines: usize, max_chars: usize) -> Self {
        // A character takes up to four bytes.
        Tail { splitter: LineSplitter::new(max_chars.saturating_mul(4)), lines: VecDeque::new(), max_lines, max_chars }
    }

    pub(super) fn push(&mut self, block: &[u8]) {
        let Tail { splitter, lines, max_lines, max_chars } = self;
        let _ = splitter.push(block, &mut |line: &[u8]| keep(lines, *max_lines, *max_chars, line));
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        let Tail { splitter, lines, max_lines, max_chars } = &mut self;
        splitter.finish(&mut |line: &[u8]| keep(lines, *max_lines, *max_chars, line));
        self.lines.into()
    }
}

fn keep(lines: &mut VecDeque<String>, max_lines: usize, max_chars: usize, line: &[u8]) -> ControlFlow<()> {
    if lines.len() >= max_lines {
        lines.pop_front();
    }
    // Control characters of a hostile title must not reach a terminal.
    let text = String::from_utf8_lossy(line);
    lines.push_back(text.chars().filter(|c| !c.is_control()).take(max_chars).collect());
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(blocks: &[&[u8]], max: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut splitter = LineSplitter::new(max);
        let mut sink = |line: &[u8]| {
            out.push(line.to_vec());
            ControlFlow::Continue(())
        };
        for block in blocks {
            assert!(splitter.push(block, &mut sink).is_continue());
        }
        splitter.finish(&mut sink);
        out
    }

    #[test]
    fn lines_are_cut_at_the_limit_and_empty_ones_left_out() {
        assert_eq!(split(&[b"ab", b"c\n\nlong li", b"ne\rend"], 5), [&b"abc"[..], b"long ", b"end"]);
    }

    #[test]
    fn the_tail_holds_the_last_lines_only_and_no_control_characters() {
        let mut tail = Tail::new(2, 3);
        tail.push(b"one\ntwo\n\x1b[31mred\n\xff\xfe");
        assert_eq!(tail.finish(), ["[31", "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn breaking_ends_the_splitting() {
        let mut seen = 0;
        let mut splitter = LineSplitter::new(10);
        let flow = splitter.push(b"a\nb\nc\n", &mut |_: &[u8]| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(flow.is_break());
        assert_eq!(seen, 2);
    }

    proptest! {
        #[test]
        fn blocks_do_not_matter(text in "[a-z\n\r]{0,80}", cut in 0usize..80) {
            let bytes = text.as_bytes();
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(split(&[a, b], 16), split(&[bytes], 16));
        }
    }
}
