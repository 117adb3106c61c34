//! Many reads in few system calls.
//!
//! Reads are sorted by address. Small reads in one page, or in adjacent pages, are read as one piece and get their parts of it:
//! the kernel looks each page up once. A call ends at a page that cannot be read; the next call reads the rest, behind the hole.
//!
//! ```text
//!  requests   ▄▄ ▄  ▄▄▄        ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
//!  memory    │ page   │ page   │ page   │ hole   │ page │
//!  call 1     ├── piece ──┤    ├───────┤ ends here
//!  call 2                                         ├────┤
//! ```
//!
//! Large reads are first divided by the [content](crate::content) of their pages, so that pages that were never used stay unused.
//! The bytes of a hole are looked for in the same way: a debugger reads memory that the process itself may not read.

use std::ops::Range;
use std::os::fd::AsRawFd;

use pactio_sdk::{BoundPacketView, Code, IoError, PacketBox, Write, WritePacketObj};

use crate::calls::{MAX_BYTES, MAX_RANGES, Ranges};
use crate::content::{Content, Finder};
use crate::files::{ProcFiles, Unread};
use crate::holes::Holes;
use crate::pages::PAGE;
use crate::target::Target;

/// Most bytes of a small read. Larger ones are not worth a second copy.
const SMALL: u32 = 1024;

/// Least bytes of a large read.
const LARGE: usize = 128 << 10;

/// Most bytes of a piece that is read through `/proc/PID/mem`, which takes less time for one piece of up to a page.
const MAX_MEM_BYTES: usize = PAGE as usize;

/// Most bytes of a piece of small reads.
const LARGEST_PIECE: u64 = 64 << 10;

/// Most bytes of scratch memory that are kept.
const MAX_SCRATCH: usize = 4 << 20;

/// Ranges of the call behind a hole: another hole may follow soon, and ranges that a call does not reach were prepared in vain.
const FEW: usize = 4;

/// Most calls of one poll that end at a hole, so that a driver with many holes returns. Calls without a hole are not counted.
const MAX_HOLES: usize = 256;

/// Collects reads and does them.
pub(crate) struct Gather {
    /// In order of their addresses, from `next` on.
    reads: Vec<Asked>,
    /// The reads before this index are done.
    next: usize,
    /// The memory of the reads, by their numbers. Each is filled from its start.
    parts: Vec<Option<WritePacketObj>>,
    /// The pieces that the current call reads.
    pieces: Vec<Piece>,
    /// Most ranges of the next call: doubled after each call without a hole.
    most: usize,
    /// The destination of pieces of several reads.
    scratch: Vec<u8>,
    /// Reads that are divided by their content first.
    large: Vec<(u64, WritePacketObj)>,
    /// Bytes that no call has read, by their addresses: holes, or memory that only a debugger reads.
    missing: Vec<(u64, WritePacketObj)>,
    files: ProcFiles,
    finder: Finder,
}

/// A range of the process that is to be read.
#[derive(Clone, Copy)]
struct Asked {
    address: u64,
    len: u32,
    /// Number of its part.
    part: u32,
}

impl Asked {
    fn end(self) -> u64 {
        self.address + u64::from(self.len)
    }
}

/// One range of a call: for one read, or for several through the scratch memory.
#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    to: usize,
    address: u64,
    len: usize,
    /// Its offset in the scratch memory.
    scratch: Option<usize>,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            reads: vec![],
            next: 0,
            parts: vec![],
            pieces: vec![],
            most: MAX_RANGES,
            scratch: vec![],
            large: vec![],
            missing: vec![],
            files: ProcFiles::default(),
            finder: Finder::default(),
        }
    }
}

impl Gather {
    /// Takes a read of which `room` bytes exist.
    pub(crate) fn read(&mut self, address: u64, room: usize, view: BoundPacketView<Write>) {
        match view.try_alloc(1) {
            Ok(bytes) if bytes.len() > room => {
                let (bytes, behind) = bytes.split_at(room);
                behind.error(IoError::END);
                self.take(address, bytes);
            }
            Ok(bytes) => self.take(address, bytes),
            // The view has no memory yet: the read goes through a packet that has.
            Err(view) => self.read_by_copy(address, room, view),
        }
    }

    #[inline]
    fn take(&mut self, address: u64, bytes: WritePacketObj) {
        if bytes.len() >= LARGE {
            self.large.push((address, bytes));
        } else {
            self.push(address, bytes);
        }
    }

    /// Takes bytes that are in memory.
    fn take_held(&mut self, mut address: u64, mut bytes: WritePacketObj) {
        while bytes.len() > MAX_BYTES {
            let (front, rest) = bytes.split_at(MAX_BYTES);
            self.push(address, front);
            (address, bytes) = (address + MAX_BYTES as u64, rest);
        }
        self.push(address, bytes);
    }

    #[inline]
    fn push(&mut self, address: u64, bytes: WritePacketObj) {
        self.reads.push(Asked { address, len: bytes.len() as u32, part: self.parts.len() as u32 });
        self.parts.push(Some(bytes));
    }

    fn read_by_copy(&mut self, address: u64, room: usize, view: BoundPacketView<Write>) {
        match PacketBox::<Write>::new_buf(view.len()).and_then(PacketBox::into_bound) {
            Ok((packet, whole)) => {
                packet.on_complete(move |packet| packet.answer(0, view));
                self.read(address, room, whole);
            }
            Err(error) => view.error(error),
        }
    }

    /// Does the reads that were taken; `false` if some are left for the next poll.
    pub(crate) fn run(&mut self, target: &Target) -> bool {
        self.finder.begin();
        if !self.large.is_empty() && self.files.is_stale(target) {
            (self.files, self.finder) = Default::default();
        }
        self.divide(target);
        self.reads[self.next..].sort_unstable_by_key(|asked| asked.address);
        let (mut holes, mut found) = (Holes::default(), 0);
        while self.is_something_left(&holes) {
            if found == MAX_HOLES {
                self.force(target);
                self.forget_what_is_done();
                return false;
            }
            self.plan(&holes);
            match self.call(target, &mut holes) {
                Ok(true) => self.most = (self.most * 2).min(MAX_RANGES),
                Ok(false) => (self.most, found) = (FEW, found + 1),
                Err(error) => self.parts.drain(..).flatten().for_each(|part| part.error(error)),
            }
        }
        self.force(target);
        (self.next, self.most) = (0, MAX_RANGES);
        self.reads.clear();
        self.parts.clear();
        if self.scratch.len() > MAX_SCRATCH {
            self.scratch = Vec::new();
        }
        true
    }

    /// Divides large reads by their content. Bytes in memory are read with the other reads.
    fn divide(&mut self, target: &Target) {
        for (mut address, mut rest) in std::mem::take(&mut self.large) {
            while !rest.is_empty() && !rest.is_cancelled() {
                let end = address.saturating_add(rest.len() as u64);
                let (content, until) = self.finder.at(&self.files, target, address, end);
                let (part, behind) = rest.split_at((until - address) as usize);
                match content {
                    Content::Memory => self.take_held(address, part),
                    content => self.give(target, address, part, &content),
                }
                (address, rest) = (until, behind);
            }
            if rest.is_empty() {
                rest.complete();
            } else {
                rest.error(IoError::CANCELLED);
            }
        }
    }

    /// Gives the missing bytes, as far as a debugger has them.
    fn force(&mut self, target: &Target) {
        if !self.missing.is_empty() && self.files.is_stale(target) {
            (self.files, self.finder) = Default::default();
        }
        for (mut address, mut rest) in std::mem::take(&mut self.missing) {
            while !rest.is_empty() {
                let end = address.saturating_add(rest.len() as u64);
                let (content, until) = self.finder.at(&self.files, target, address, end);
                let (part, behind) = rest.split_at((until - address) as usize);
                match content {
                    // The system refuses to read it: it may be a device, whose registers are left alone.
                    Content::Memory => part.error(Self::why_missing(target)),
                    content => self.give(target, address, part, &content),
                }
                (address, rest) = (until, behind);
            }
            rest.complete();
        }
    }

    /// The error for bytes that are not there.
    fn why_missing(target: &Target) -> IoError {
        IoError::from_code(if target.is_alive() { Code::NOT_MAPPED } else { Code::DISCONNECTED })
    }

    /// Answers bytes of one content.
    fn give(&self, target: &Target, address: u64, mut part: WritePacketObj, content: &Content) {
        match content {
            // Another process may have the number of one that has ended.
            Content::Zeros | Content::File(..) if !target.is_alive() => part.error(Self::why_missing(target)),
            Content::Memory | Content::Forced => self.read_forced(target, address, part),
            Content::Zeros => {
                fill_with_zeros(&mut part);
                part.complete();
            }
            Content::File(file, offset) => {
                let buffer = part.unfilled_ptr();
                let (mut read, len) = (0, part.len());
                while read < len {
                    // SAFETY: the part has `len` bytes, of which `read` are filled.
                    let count = unsafe {
                        let left = len - read;
                        libc::pread(
                            file.as_raw_fd(),
                            buffer.add(read).cast(),
                            left,
                            (offset + read as u64).cast_signed(),
                        )
                    };
                    match usize::try_from(count) {
                        Ok(0) => break,
                        Ok(count) => read += count,
                        Err(_)
                            if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
                        Err(_) => {
                            let error = std::io::Error::last_os_error();
                            // SAFETY: the system wrote these bytes.
                            unsafe { part.advance_unchecked(read) };
                            let (front, rest) = part.split_at(read);
                            front.complete();
                            return rest.error(error.into());
                        }
                    }
                }
                // SAFETY: the system wrote these bytes.
                unsafe { part.advance_unchecked(read) };
                // Behind the end of the file, its last page has zeros.
                fill_with_zeros(&mut part);
                part.complete();
            }
            Content::Missing => part.error(Self::why_missing(target)),
        }
    }

    /// Reads bytes through `/proc/PID/mem`. A page that cannot be read is a hole.
    fn read_forced(&self, target: &Target, mut address: u64, mut part: WritePacketObj) {
        while !part.is_empty() {
            // SAFETY: the part has `len` bytes.
            let read = unsafe { self.files.read(target, address, part.unfilled_ptr(), part.len()) };
            let count = match read {
                Ok(count) => count,
                Err(_) => return part.error(Self::why_missing(target)),
            };
            let (mut front, rest) = part.split_at(count);
            // SAFETY: the system wrote these bytes.
            unsafe { front.advance_unchecked(count) };
            front.complete();
            address += count as u64;
            if rest.is_empty() {
                return rest.complete();
            }
            let hole = (address | (PAGE - 1)).saturating_add(1) - address;
            let len = rest.len().min(hole as usize);
            let (hole, behind) = rest.split_at(len);
            address += hole.len() as u64;
            hole.error(IoError::from_code(Code::NOT_MAPPED));
            part = behind;
        }
        part.complete();
    }

    fn forget_what_is_done(&mut self) {
        self.reads.drain(..self.next);
        self.next = 0;
        let mut parts = Vec::with_capacity(self.reads.len());
        for asked in &mut self.reads {
            let part = self.parts[asked.part as usize].take();
            asked.part = parts.len() as u32;
            parts.push(part);
        }
        self.parts = parts;
    }

    /// Fails reads that begin in the known hole, as far as it reaches; `true` if a read is left.
    fn is_something_left(&mut self, holes: &Holes) -> bool {
        if self.parts.is_empty() {
            return false;
        }
        while let Some(first) = self.reads.get(self.next) {
            if !holes.last().contains(&first.address) {
                return true;
            }
            self.skip_hole(holes, self.next, self.next + 1, first.address, None);
        }
        false
    }

    /// Chooses the pieces that the next call reads.
    fn plan(&mut self, holes: &Holes) {
        self.pieces.clear();
        let (mut bytes, mut scratch, mut at) = (0, 0, self.next);
        while self.pieces.len() < self.most
            && let Some(&first) = self.reads.get(at)
            && !holes.last().contains(&first.address)
        {
            let (from, address, mut end) = (at, first.address, first.end());
            at += 1;
            while first.len <= SMALL
                && let Some(&next) = self.reads.get(at)
                && next.len <= SMALL
                && next.address <= end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
                && next.end().max(end) - address <= LARGEST_PIECE
            {
                end = end.max(next.end());
                at += 1;
            }
            let len = (end - address) as usize;
            if bytes > 0 && bytes + len > MAX_BYTES {
                break;
            }
            bytes += len;
            let several = at - from > 1;
            self.pieces.push(Piece { from, to: at, address, len, scratch: several.then_some(scratch) });
            scratch += if several { len } else { 0 };
        }
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, 0);
        }
    }

    /// Reads the pieces, and answers the reads that are complete; `false` if there was a hole.
    fn call(&mut self, target: &Target, holes: &mut Holes) -> Result<bool, IoError> {
        let mut ranges = Ranges::with_capacity(self.pieces.len());
        let scratch = self.scratch.as_mut_ptr();
        let mut single = None;
        for piece in &self.pieces {
            let memory = match piece.scratch {
                // SAFETY: `plan` has resized the scratch memory so that it holds all pieces.
                Some(at) => unsafe { scratch.add(at) },
                None => {
                    let part = self.parts[self.reads[piece.from].part as usize].as_mut();
                    part.expect("it is not read yet").unfilled_ptr()
                }
            };
            ranges.push(piece.address, memory, piece.len);
            single = (self.pieces.len() == 1 && piece.len <= MAX_MEM_BYTES).then_some((piece, memory));
        }
        // SAFETY: the memory belongs to a part or to the scratch memory, and lives through the call.
        let read = single
            .map(|(piece, memory)| unsafe { self.files.read(target, piece.address, memory, piece.len) });
        if read == Some(Err(Unread::Gone)) {
            // The process has ended, or has replaced its program. If it lives, the next call reads its memory of now.
            self.files = ProcFiles::default();
        }
        let mut left = match read {
            Some(Ok(count)) => count,
            // SAFETY: the memory of each range belongs to a part or to the scratch memory, and lives through the call.
            _ => unsafe { ranges.read(target) }?,
        };
        for index in 0..self.pieces.len() {
            let piece = self.pieces[index];
            if left < piece.len {
                let hole = piece.address + left as u64;
                holes.found(&mut self.finder.maps, &self.files, target, hole);
                self.skip_hole(holes, piece.from, piece.to, hole, piece.scratch);
                return Ok(false);
            }
            left -= piece.len;
            self.next = piece.to;
            for asked in &self.reads[piece.from..piece.to] {
                let part = self.parts[asked.part as usize].take();
                let mut part = part.expect("it is not read yet");
                let skip = (asked.address - piece.address) as usize;
                let scratch = piece.scratch.map(|at| &self.scratch[at + skip..]);
                fill(&mut part, asked.len as usize, scratch);
                part.complete();
            }
        }
        Ok(true)
    }

    /// Answers reads that touch the last hole: bytes before `hole` are complete, bytes in the hole fail, and bytes behind it are
    /// sorted into the reads that are left.
    fn skip_hole(&mut self, holes: &Holes, from: usize, to: usize, hole: u64, scratch: Option<usize>) {
        let (behind, start) = (holes.last().end, self.reads[from].address);
        let (mut at, mut kept) = (from, Vec::new());
        while at < to && self.reads[at].address < behind {
            let asked = self.reads[at];
            at += 1;
            let skip = (asked.address - start) as usize;
            let scratch = scratch.map(|at| &self.scratch[at + skip..]);
            let part = &mut self.parts[asked.part as usize];
            kept.extend(cut(part, asked, hole..behind, scratch, &mut self.missing));
        }
        self.next = at - kept.len();
        self.reads[self.next..at].copy_from_slice(&kept);
        // Later reads that overlap with the kept ones may begin before `behind`.
        let before = self.reads[at..].partition_point(|asked| asked.address < behind);
        self.reads[self.next..at + before].rotate_left(kept.len());
    }
}

/// Records that the first `count` bytes of a part have arrived: they are in it already, or at the start of `copy`.
#[inline(always)]
fn fill(part: &mut WritePacketObj, count: usize, copy: Option<&[u8]>) {
    match copy {
        Some(copy) => {
            part.put_slice(&copy[..count]);
        }
        // SAFETY: the system wrote these `count` bytes.
        None => unsafe { part.advance_unchecked(count) },
    }
}

fn fill_with_zeros(part: &mut WritePacketObj) {
    let unfilled = part.unfilled_mut();
    unfilled.fill(0);
    let len = unfilled.len();
    part.advance(len);
}

/// Takes a hole out of a read and collects it, and returns the rest behind it.
fn cut(
    part: &mut Option<WritePacketObj>,
    asked: Asked,
    hole: Range<u64>,
    copy: Option<&[u8]>,
    holes: &mut Vec<(u64, WritePacketObj)>,
) -> Option<Asked> {
    let bytes = part.take()?;
    if bytes.is_cancelled() {
        bytes.error(IoError::CANCELLED);
        return None;
    }
    let came = hole.start.saturating_sub(asked.address).min(u64::from(asked.len)) as usize;
    let (mut front, rest) = bytes.split_at(came);
    fill(&mut front, came, copy);
    front.complete();
    if rest.is_empty() {
        rest.complete();
        return None;
    }
    let missing = (hole.end.min(asked.end()) - asked.address) as usize - came;
    let (missing, rest) = rest.split_at(missing);
    holes.push((asked.address + came as u64, missing));
    if rest.is_empty() {
        rest.complete();
        return None;
    }
    let len = rest.len() as u32;
    *part = Some(rest);
    Some(Asked { address: hole.end, len, ..asked })
}
