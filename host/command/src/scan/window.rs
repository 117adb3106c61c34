//! A piece of a device in memory, and the matches in it.

use std::ops::Range;

use pactio::Device;
use pactio_sdk::IoError as PacketError;

use crate::failure::Failure;
use crate::pattern::{Pattern, Text};

/// Number of matches of a piece that are kept at once.
pub(super) const BATCH: u64 = 1 << 14;

/// A part of a span that is searched at once.
pub(super) struct Piece {
    pub(super) own: Range<u64>,
    pub(super) span: Range<u64>,
}

/// The pattern, and how it is searched for.
pub(super) struct Search {
    pub(super) pattern: Pattern,
    pub(super) align: u64,
    /// Number of matches that are looked for at once.
    pub(super) most: u64,
}

/// A piece that was read, and the bytes around it.
pub(super) struct Window {
    pub(super) bytes: Vec<u8>,
    /// Position of the first byte.
    pub(super) start: u64,
    parts: Vec<Part>,
    /// Number of bytes of the piece that were read.
    pub(super) searched: u64,
    pub(super) holes: Vec<(Range<u64>, PacketError)>,
}

/// Bytes without a hole in between.
struct Part {
    bytes: Range<usize>,
    /// Range in which matches of the piece may begin.
    begins: Range<usize>,
    /// Nothing lies behind the part.
    ends: bool,
}

impl Window {
    pub(super) fn read(
        device: &Device,
        pattern: &Pattern,
        piece: &Piece,
        mut bytes: Vec<u8>,
    ) -> Result<Self, Failure> {
        let Piece { own, span } = piece;
        let start = own.start - (own.start - span.start).min(pattern.before as u64);
        let end = own.end + (span.end - own.end).min(pattern.behind as u64);
        bytes.resize((end - start) as usize, 0);
        let report = device.blocking_read_at(start, &mut bytes[..])?;
        let own = (own.start - start) as usize..(own.end - start) as usize;
        let mut window = Self { bytes, start, parts: Vec::new(), searched: 0, holes: Vec::new() };
        for (range, result) in report.ranges() {
            let inside = range.start.max(own.start)..range.end.min(own.end);
            if inside.is_empty() {
                continue;
            }
            let positions = start + inside.start as u64..start + inside.end as u64;
            match result {
                Ok(()) => {
                    let ends = range.end < report.len() || end == span.end;
                    // An empty match may also lie at the end.
                    let at_end = usize::from(ends && range.end == inside.end);
                    let begins = inside.start..inside.end + at_end;
                    window.searched += inside.len() as u64;
                    window.parts.push(Part { bytes: range, begins, ends });
                }
                Err(error) => window.holes.push((positions, error)),
            }
        }
        Ok(window)
    }

    /// The first match that begins at `from` or behind it.
    fn find(&self, search: &Search, mut from: usize) -> Option<Range<usize>> {
        let first = self.parts.partition_point(|part| part.begins.end <= from);
        for Part { bytes, begins, ends } in &self.parts[first..] {
            let text = Text { bytes: &self.bytes[bytes.clone()], ends: *ends };
            from = from.max(begins.start);
            while let Some(aligned) = self.aligned(from, search.align).filter(|at| begins.contains(at))
                && let Some(found) = search.pattern.find(text, aligned - bytes.start)
            {
                let found = bytes.start + found.start..bytes.start + found.end;
                if !begins.contains(&found.start) {
                    break;
                }
                if self.aligned(found.start, search.align) == Some(found.start) {
                    return Some(found);
                }
                from = found.start + 1;
            }
        }
        None
    }

    /// Index of the first aligned position at `from` or behind it.
    fn aligned(&self, from: usize, align: u64) -> Option<usize> {
        let position = self.start.checked_add(from as u64)?.checked_next_multiple_of(align)?;
        usize::try_from(position - self.start).ok()
    }
}

/// A window, and the matches in it so far.
pub(super) struct Found {
    pub(super) window: Window,
    /// The first matches since the search was continued.
    pub(super) matches: Vec<Range<usize>>,
    /// Number of matches behind those in `matches`.
    more: u64,
    /// Index at which the search continues.
    pub(super) from: usize,
    /// There are no more matches.
    pub(super) is_over: bool,
}

impl Found {
    pub(super) fn first(window: Window, search: &Search) -> Self {
        let mut found = Self { window, matches: Vec::new(), more: 0, from: 0, is_over: false };
        found.search_on(search);
        found
    }

    pub(super) fn count(&self) -> u64 {
        self.matches.len() as u64 + self.more
    }

    pub(super) fn search_on(&mut self, search: &Search) {
        self.matches.clear();
        self.more = 0;
        while !self.is_over && self.count() < search.most {
            match self.window.find(search, self.from) {
                Some(found) => {
                    self.from = search.pattern.next(&found);
                    if (self.matches.len() as u64) < BATCH {
                        self.matches.push(found);
                    } else {
                        self.more += 1;
                    }
                }
                None => self.is_over = true,
            }
        }
    }

    /// Makes the matches those of a search from `position` on, where the match before ended. The existing search began with the
    /// piece. If none of its matches lies across `position`, both searches find the same from there on; otherwise the search is
    /// done again.
    pub(super) fn begin_at(&mut self, position: u64, search: &Search) {
        let begin = usize::try_from(position.saturating_sub(self.window.start)).unwrap_or(usize::MAX);
        let before = self.matches.partition_point(|found| found.start < begin);
        let is_across = self.matches[..before].last().is_some_and(|last| search.pattern.next(last) > begin);
        let is_known = before < self.matches.len() || self.more == 0;
        if is_known && !is_across {
            self.matches.drain(..before);
            self.from = self.from.max(begin);
        } else {
            (self.from, self.is_over) = (begin, false);
            self.search_on(search);
        }
    }
}
