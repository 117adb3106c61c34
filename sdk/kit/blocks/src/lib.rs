//! Reads through a filter on data that is only meaningful in whole blocks: encrypted or checksummed data.
//!
//! ```text
//!          block 0     block 1     block 2     block 3
//!        ├───────────┼───────────┼───────────┼───────────┤
//!               ▓▓▓▓▓ ▒▒▒▒▒▒▒▒▒▒▒ ▒▒▒▒▒▒▒▒▒▒▒ ▓▓▓▓
//!               part   whole blocks: read     part
//!               of a   and decoded in the     of a
//!               block  requester's memory     block: read into a buffer, decoded, copied
//! ```

#![forbid(unsafe_code)]

use std::sync::Arc;

use pactio_sdk::{
    BoundPacketView, Cause, DerivedPacket, IoError, Lower, MemoryPool, PacketIo, PooledBytes, ReboundPacket,
    Report, ReturnedPart, ReturnedParts, Write,
};

/// The size of blocks, and how a block is decoded.
pub trait Blocks: Send + Sync + 'static {
    /// Size of a block in bytes.
    fn unit(&self) -> usize;

    /// The end of the last block, if the end is fixed. The last block may be shorter than the others.
    fn end(&self) -> Option<u64>;

    /// Decodes a block in place, or checks it.
    ///
    /// # Errors
    ///
    /// The reason that its bytes must not be used.
    fn decode(&self, block: u64, bytes: &mut [u8]) -> Result<(), Cause>;
}

/// The device below a filter, read in whole blocks.
#[derive(Clone, Debug)]
pub struct Reader<B> {
    lower: Lower,
    blocks: Arc<B>,
    pool: MemoryPool,
    /// Bytes of a buffer: whole blocks.
    buffer: usize,
}

/// Size of a buffer if blocks are small. A buffer holds at least one block.
const BUFFER: usize = 64 << 10;

/// Buffers that stay allocated while they are free.
const KEPT: usize = 16;

impl<B: Blocks> Reader<B> {
    /// Reads `lower` in `blocks`.
    pub fn new(lower: Lower, blocks: Arc<B>) -> Self {
        let unit = blocks.unit();
        let buffer = unit * (BUFFER / unit).max(1);
        Self { lower, blocks, pool: MemoryPool::new(buffer, 4096, KEPT), buffer }
    }

    /// The device below.
    pub fn lower(&self) -> &Lower {
        &self.lower
    }

    /// The blocks.
    pub fn blocks(&self) -> &Arc<B> {
        &self.blocks
    }

    /// Maximum length of a [`buffer`](Self::buffer) in bytes: whole blocks.
    pub fn buffer_len(&self) -> usize {
        self.buffer
    }

    /// A buffer of `len` bytes, which must not be more than [`buffer_len`](Self::buffer_len).
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if it cannot be allocated.
    pub fn buffer(&self, len: usize) -> Result<PooledBytes, IoError> {
        let mut buffer = self.pool.take()?;
        buffer.truncate(len);
        Ok(buffer)
    }

    /// Answers a read: whole blocks are decoded in the requester's memory, parts of blocks in buffers.
    pub fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let unit = self.blocks.unit() as u64;
        // No device has a block that ends past the last position.
        let stop = position
            .checked_add(view.len() as u64)
            .filter(|stop| stop.checked_next_multiple_of(unit).is_some());
        let Some(mut stop) = stop else { return view.error(IoError::END) };
        let mut view = view;
        if let Some(end) = self.blocks.end().filter(|end| *end < stop) {
            let (front, behind) = view.split_at(end.saturating_sub(position) as usize);
            behind.error(IoError::END);
            (view, stop) = (front, end.max(position));
        }
        // The request begins at the end or behind it, or is empty.
        if view.is_empty() {
            return view.transfer_data(&[]).complete();
        }
        let is_end = stop % unit == 0 || self.blocks.end() == Some(stop);
        let last = if is_end { stop } else { stop - stop % unit };
        let first = position.next_multiple_of(unit).min(stop);
        if first > last {
            return self.copied(position, view);
        }
        let (head, rest) = view.split_at((first - position) as usize);
        let (whole, tail) = rest.split_at((last - first) as usize);
        for (position, part) in [(position, head), (last, tail)] {
            if part.is_empty() { part.transfer_data(&[]).complete() } else { self.copied(position, part) }
        }
        if whole.is_empty() {
            whole.transfer_data(&[]).complete();
        } else if whole.has_bytes() {
            self.in_place(first, whole);
        } else {
            self.in_buffers(first, whole);
        }
    }

    /// Reads whole blocks into the requester's memory. If memory for that cannot be allocated, the view has failed already.
    fn in_place(&self, position: u64, view: BoundPacketView<Write>) {
        let Ok(mut rebound) = ReboundPacket::new(view) else { return };
        let Ok(fresh) = rebound.bind() else { return };
        let blocks = self.blocks.clone();
        rebound.on_complete(move |rebound| {
            let report = rebound.report();
            let Ok(parts) = rebound.into_parts() else { return };
            decode_parts(&*blocks, position, report, parts);
        });
        self.lower.send_io(position, fresh);
    }

    /// Reads whole blocks for a request without bytes in memory.
    fn in_buffers(&self, mut position: u64, mut view: BoundPacketView<Write>) {
        while view.len() > self.buffer {
            let (front, behind) = view.split_at(self.buffer);
            self.copied(position, front);
            (position, view) = (position + self.buffer as u64, behind);
        }
        self.copied(position, view);
    }

    /// Reads the blocks that contain a range, which fit into a buffer, and answers with the range.
    fn copied(&self, position: u64, view: BoundPacketView<Write>) {
        let unit = self.blocks.unit() as u64;
        let start = position - position % unit;
        let stop = (position + view.len() as u64).next_multiple_of(unit);
        let stop = self.blocks.end().map_or(stop, |end| end.min(stop));
        let buffer = match self.buffer((stop - start) as usize) {
            Ok(buffer) => buffer,
            Err(error) => return view.error(error),
        };
        let Ok(mut derived) = DerivedPacket::<_, Write, Write>::new(view, buffer) else { return };
        let Ok(fresh) = derived.bind() else { return };
        let blocks = self.blocks.clone();
        derived.on_complete(move |derived| {
            let Ok((view, mut bytes, report)) = derived.into_parts() else { return };
            let report = decode_blocks(&*blocks, start / unit, &mut bytes, report);
            report.answer(&bytes, (position - start) as usize, view);
        });
        self.lower.send_io(start, fresh);
    }
}

/// Decodes the blocks of a buffer. A block of which a byte is missing, or that cannot be decoded, fails as a whole.
pub fn decode_blocks<B: Blocks>(blocks: &B, first: u64, bytes: &mut [u8], read: Report) -> Report {
    let mut report = read;
    let unit = blocks.unit();
    fail_whole_blocks(&mut report, unit);
    for ((index, block), start) in bytes.chunks_mut(unit).enumerate().zip((0..).step_by(unit)) {
        let range = start..start + block.len();
        if report.failed_ranges().any(|(failed, _)| failed.contains(&start)) {
            continue;
        }
        if let Err(cause) = blocks.decode(first + index as u64, block) {
            report.fail(range, cause);
        }
    }
    report
}

/// Extends each failure of a report to the whole blocks of `unit` bytes that it touches.
pub fn fail_whole_blocks(report: &mut Report, unit: usize) {
    let failed: Vec<_> = report.causes().map(|(range, cause)| (range, cause.clone())).collect();
    for (range, cause) in failed {
        let stop = range.end.next_multiple_of(unit).min(report.len());
        report.fail(range.start - range.start % unit..stop, cause);
    }
}

/// Decodes returned whole blocks in place. A block of which a part failed fails as a whole.
fn decode_parts<B: Blocks>(blocks: &B, position: u64, read: Report, parts: ReturnedParts<Write>) {
    let mut report = read;
    fail_whole_blocks(&mut report, blocks.unit());
    for mut part in parts {
        if part.result().is_err() {
            part.complete();
            continue;
        }
        let stop = part.range().end;
        for (range, outcome) in report.outcomes() {
            let start = part.range().start;
            if range.end <= start || part.is_empty() {
                continue;
            }
            let (front, rest) = part.split_at(range.end.min(stop) - start);
            part = rest;
            match outcome {
                Ok(()) => decode_part(blocks, position, front),
                Err(cause) => front.fail(cause),
            }
        }
        // The rest of the part is empty.
        part.complete();
    }
}

/// Decodes a part that was read. The part begins at the start of a block.
fn decode_part<B: Blocks>(blocks: &B, position: u64, mut part: ReturnedPart<Write>) {
    let unit = blocks.unit();
    let mut block = (position + part.range().start as u64) / unit as u64;
    loop {
        let mut failed = None;
        let mut done = 0;
        for bytes in part.bytes_mut().unwrap_or_default().chunks_mut(unit) {
            match blocks.decode(block, bytes) {
                Ok(()) => done += bytes.len(),
                Err(cause) => {
                    failed = Some((bytes.len(), cause));
                    break;
                }
            }
            block += 1;
        }
        let Some((len, cause)) = failed else { return part.complete() };
        let (front, rest) = part.split_at(done);
        let (broken, rest) = rest.split_at(len);
        front.complete();
        broken.fail(&cause);
        (part, block) = (rest, block + 1);
    }
}
