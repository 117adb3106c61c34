//! Many reads in few system calls.
//!
//! Reads are put in order of their addresses. Small ones that lie in one page, or in pages that touch, are read as one piece and
//! given their parts of it: the kernel looks each page up once. Where a page cannot be read, the call ends; what it left out is
//! read by the next call, behind the page.
//!
//! ```text
//!  requests   ▄▄ ▄  ▄▄▄        ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
//!  memory    │ page   │ page   │ page   │ hole   │ page │
//!  call 1     ├── piece ──┤    ├───────┤ ends here
//!  call 2                                         ├────┤
//! ```

use std::collections::VecDeque;
use std::fs;

use pactio_sdk::{BoundPacketView, Code, Error, Read, Write, WritePacketObj};

use crate::regions;
use crate::target::Target;

/// Bytes per page: the least that any system has, so that no page is taken for a part of another.
const PAGE: u64 = 4096;

/// Larger reads are not worth being copied twice.
const SMALL: usize = 1024;

/// A piece of small reads is no longer than this.
const LARGEST_PIECE: u64 = 64 << 10;

/// Most ranges of one call: what the system takes.
const MOST: usize = 1024;

/// Most bytes of one range, and about the most of one call. The system's limit is a little below twice that.
const MOST_BYTES: usize = 1 << 30;

const NOT_MAPPED: Error = Error::from_code(Code::NotMapped);

/// Collects reads and does them.
#[derive(Default)]
pub(crate) struct Gather {
    waiting: VecDeque<Part>,
    /// Pieces are read to here.
    scratch: Vec<u8>,
}

/// A range of the process, and where it goes. It is filled from its start.
struct Part {
    address: u64,
    bytes: WritePacketObj,
    /// It is what was left behind a hole, or of a piece with one: it goes by itself.
    alone: bool,
}

impl Part {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self) -> u64 {
        self.address + self.len() as u64
    }
}

/// One range of a call.
enum Range {
    One(Part),
    /// Parts of one piece of this length.
    Piece(Vec<Part>, usize),
}

impl Gather {
    /// Takes a read of which `room` bytes exist.
    pub(crate) fn read(&mut self, address: u64, room: usize, view: BoundPacketView<Write>) {
        match view.try_alloc(1) {
            Ok(bytes) if bytes.len() > room => {
                let (bytes, behind) = bytes.split_at(room);
                behind.error(Error::END);
                self.take(address, bytes);
            }
            Ok(bytes) => self.take(address, bytes),
            // Memory that does not exist yet: by way of some that does.
            Err(view) => self.read_by_copy(address, room, view),
        }
    }

    fn take(&mut self, mut address: u64, mut bytes: WritePacketObj) {
        while bytes.len() > MOST_BYTES {
            let (front, rest) = bytes.split_at(MOST_BYTES);
            self.waiting.push_back(Part { address, bytes: front, alone: false });
            (address, bytes) = (address + MOST_BYTES as u64, rest);
        }
        self.waiting.push_back(Part { address, bytes, alone: false });
    }

    fn read_by_copy(&mut self, address: u64, room: usize, view: BoundPacketView<Write>) {
        let bound =
            pactio_sdk::PacketBox::<Write>::new_buf(view.len()).and_then(pactio_sdk::PacketBox::into_bound);
        match bound {
            Ok((packet, whole)) => {
                packet.on_complete(move |packet| packet.answer(0, view));
                self.read(address, room, whole);
            }
            Err(error) => view.error(error),
        }
    }

    /// Does all that was taken.
    pub(crate) fn run(&mut self, target: &Target) {
        self.waiting.make_contiguous().sort_unstable_by_key(|part| part.address);
        while !self.waiting.is_empty() {
            let ranges = self.next_ranges();
            if let Err(error) = self.call(target, ranges) {
                self.waiting.drain(..).for_each(|part| part.bytes.error(error));
            }
        }
    }

    /// What the next call reads.
    fn next_ranges(&mut self) -> Vec<Range> {
        let (mut ranges, mut bytes) = (Vec::new(), 0);
        while ranges.len() < MOST
            && bytes < MOST_BYTES - LARGEST_PIECE as usize
            && let Some(first) = self.waiting.pop_front()
        {
            if first.alone || first.len() > SMALL {
                if bytes > 0 && bytes + first.len() > MOST_BYTES {
                    self.waiting.push_front(first);
                    break;
                }
                bytes += first.len();
                ranges.push(Range::One(first));
                continue;
            }
            let (start, mut end) = (first.address, first.end());
            // As many as usually lie in a page, so that it need not grow.
            let mut parts = Vec::with_capacity(16);
            parts.push(first);
            while let Some(next) = self.waiting.front()
                && !next.alone
                && next.len() <= SMALL
                && next.address <= end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
                && next.end().max(end) - start <= LARGEST_PIECE
            {
                end = end.max(next.end());
                parts.extend(self.waiting.pop_front());
            }
            bytes += (end - start) as usize;
            let piece = if parts.len() > 1 {
                Some(Range::Piece(parts, (end - start) as usize))
            } else {
                parts.pop().map(Range::One)
            };
            ranges.extend(piece);
        }
        ranges
    }

    /// Reads ranges, answers what was read, and takes the rest back.
    fn call(&mut self, target: &Target, mut ranges: Vec<Range>) -> Result<(), Error> {
        let pieces: usize =
            ranges.iter().map(|range| if let Range::Piece(_, len) = range { *len } else { 0 }).sum();
        self.scratch.resize(self.scratch.len().max(pieces), 0);
        let (mut local, mut remote) = (Vec::with_capacity(ranges.len()), Vec::with_capacity(ranges.len()));
        let mut used = 0;
        for range in &mut ranges {
            let (memory, address, len) = match range {
                Range::One(part) => (part.bytes.unfilled_ptr(), part.address, part.len()),
                Range::Piece(parts, len) => {
                    let memory = self.scratch[used..].as_mut_ptr();
                    used += *len;
                    (memory, parts[0].address, *len)
                }
            };
            local.push(libc::iovec { iov_base: memory.cast(), iov_len: len });
            remote.push(libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len });
        }
        // SAFETY: the memory of each local range is a part's or the scratch, and lives through the call, which only writes there.
        let count = unsafe {
            libc::process_vm_readv(
                target.pid(),
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let outcome = usize::try_from(count).or_else(|_| none_moved());
        // If it has ended, it may have been another one that got its number.
        let outcome = if target.is_alive() { outcome } else { Err(Error::from_code(Code::Disconnected)) };
        let mut left = match outcome {
            Ok(count) => count,
            Err(error) => {
                self.waiting.extend(ranges.into_iter().flat_map(Range::into_parts));
                return Err(error);
            }
        };
        let (mut used, mut hole) = (0, false);
        let mut back = Vec::new();
        for range in ranges {
            match range {
                Range::One(part) if !hole && left >= part.len() => {
                    left -= part.len();
                    let count = part.len();
                    finish(part, count);
                }
                Range::Piece(parts, len) if !hole && left >= len => {
                    left -= len;
                    let (start, piece) = (parts[0].address, &self.scratch[used..used + len]);
                    for mut part in parts {
                        let skip = (part.address - start) as usize;
                        part.bytes.put_slice(&piece[skip..skip + part.bytes.len()]);
                        part.bytes.complete();
                    }
                    used += len;
                }
                Range::One(part) if !hole => {
                    hole = true;
                    back.extend(skip_hole(target, part, left));
                }
                Range::Piece(parts, _) if !hole => {
                    hole = true;
                    back.extend(parts.into_iter().map(|part| Part { alone: true, ..part }));
                }
                range => back.extend(range.into_parts()),
            }
        }
        back.into_iter().rev().for_each(|part| self.waiting.push_front(part));
        Ok(())
    }

    /// Writes, as far as the process has memory there that may be written.
    pub(crate) fn write(&mut self, target: &Target, address: u64, room: usize, view: BoundPacketView<Read>) {
        let end = if view.len() > room { Error::END } else { NOT_MAPPED };
        match view.try_alloc(1) {
            Ok(bytes) => {
                let (done, error) = write(target, address, &bytes[..bytes.len().min(room)]);
                bytes.complete_with(done, error.unwrap_or(end));
            }
            Err(view) => {
                self.scratch.resize(self.scratch.len().max(view.len()), 0);
                let len = view.len();
                let transferred = view.transfer_data(&mut self.scratch[..len]);
                let (done, error) = write(target, address, &self.scratch[..len.min(room)]);
                transferred.complete_with(done, error.unwrap_or(end));
            }
        }
    }
}

impl Range {
    fn into_parts(self) -> Vec<Part> {
        match self {
            Self::One(part) => vec![part],
            Self::Piece(parts, _) => parts,
        }
    }
}

/// The first `count` bytes of a part were read.
fn finish(mut part: Part, count: usize) {
    // SAFETY: the system wrote them.
    unsafe { part.bytes.advance_unchecked(count) };
    part.bytes.complete();
}

/// So many bytes of a part were read, and behind them is a hole. Gives what lies behind that.
fn skip_hole(target: &Target, part: Part, count: usize) -> Option<Part> {
    let hole = part.address + count as u64;
    let (again, end) = (part.alone && count == 0, part.end());
    let mut behind = (hole | (PAGE - 1)).saturating_add(1).min(end);
    // A second one right behind the first: it may be large.
    if again && behind < end {
        behind = mapped_from(target, hole).map_or(end, |mapped| mapped.clamp(behind, end));
    }
    let (front, rest) = part.bytes.split_at(count);
    finish(Part { address: part.address, bytes: front, alone: true }, count);
    let (hole, rest) = rest.split_at((behind - hole) as usize);
    hole.error(NOT_MAPPED);
    if rest.is_empty() {
        rest.complete();
        return None;
    }
    Some(Part { address: behind, bytes: rest, alone: true })
}

/// Where memory that can be read begins, at or behind a page that could not.
fn mapped_from(target: &Target, hole: u64) -> Option<u64> {
    let maps = fs::read(format!("/proc/{}/maps", target.pid())).ok()?;
    let next = hole.checked_add(PAGE)?;
    regions::parse(&String::from_utf8_lossy(&maps))
        .find(|region| region.readable && region.range.end > next)
        .map(|region| region.range.start.max(next))
}

/// A call moved nothing: because of its first page, or because of the process.
fn none_moved() -> Result<usize, Error> {
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT) => Ok(0),
        Some(libc::ESRCH) => Err(Error::from_code(Code::Disconnected)),
        _ => Err(error.into()),
    }
}

/// How much was written, and why no more, unless it is that nothing is there.
fn write(target: &Target, address: u64, bytes: &[u8]) -> (usize, Option<Error>) {
    let mut done = 0;
    while done < bytes.len() {
        if !target.is_alive() {
            // Its number may be another's.
            return (done, Some(Error::from_code(Code::Disconnected)));
        }
        let rest = &bytes[done..];
        let local = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
        let remote =
            libc::iovec { iov_base: (address + done as u64) as *mut libc::c_void, iov_len: rest.len() };
        // SAFETY: the system only reads the local memory, which is borrowed for the call. What it writes to is memory of the
        // process, which has to bear that: opening it to be written asks for it.
        let count =
            unsafe { libc::process_vm_writev(target.pid(), &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(count).or_else(|_| none_moved()) {
            Ok(0) => return (done, Some(NOT_MAPPED)),
            Ok(count) => done += count,
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}
