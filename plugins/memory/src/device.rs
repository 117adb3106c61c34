//! A device in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use pactio_sdk::{
    Answer, BackendDevice, BoundPacketView, Describe, DeviceInfo, ExtensionQuery, Identity, IoError, Kind,
    Limiting, Limits, Read, ReadNow, ReadWrite, Records, Stat, Unfilled, Write, Zero, ZeroMode,
};

use crate::cells::Cells;

/// A device whose requests are answered at once.
pub(crate) struct MemoryDevice {
    cells: Cells,
    /// Unique among the memory devices of this process.
    number: u64,
}

impl MemoryDevice {
    pub(crate) fn new(cells: Cells) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Ordering: Relaxed. Each call gets a different number.
        Self { cells, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// The part of `position..position + len` that exists, as start and length.
    fn clamp(&self, position: u64, len: usize) -> Option<(usize, usize)> {
        let start = usize::try_from(position).ok().filter(|&start| start < self.cells.len())?;
        Some((start, len.min(self.cells.len() - start)))
    }
}

impl BackendDevice for MemoryDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.cells.len() as u64)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let Some((start, len)) = self.clamp(position, view.len()) else { return view.error(IoError::END) };
        match view.try_alloc(1) {
            Ok(mut bytes) => {
                // SAFETY: at least `len` bytes are unfilled, and all of them are written.
                unsafe {
                    self.cells.read(start, bytes.unfilled_ptr(), len);
                    bytes.advance_unchecked(len);
                }
                bytes.complete_with(IoError::END);
            }
            Err(view) => {
                let mut copy = vec![0; len];
                // SAFETY: `copy` has `len` bytes.
                unsafe { self.cells.read(start, copy.as_mut_ptr(), len) };
                view.transfer_data(&copy).complete();
            }
        }
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query
            .offer::<dyn ReadNow>(self)
            .offer::<dyn Limiting>(self)
            .offer::<dyn Describe>(self)
            .offer::<dyn Zero>(self);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        let Some((start, len)) = self.clamp(position, view.len()) else { return view.error(IoError::END) };
        match view.try_alloc(1) {
            Ok(mut bytes) => {
                self.cells.exchange(start, &mut bytes[..len]);
                bytes.complete_with(len, IoError::END);
            }
            Err(view) => {
                // The copy holds the device's bytes first, then the packet's.
                let mut copy = vec![0; len];
                // SAFETY: `copy` has `len` bytes.
                unsafe { self.cells.read(start, copy.as_mut_ptr(), len) };
                let transferred = view.transfer_data(&mut copy);
                self.cells.write(start, &copy[..transferred.moved()]);
                transferred.complete();
            }
        }
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let Some((start, len)) = self.clamp(position, view.len()) else { return view.error(IoError::END) };
        match view.try_alloc(1) {
            Ok(bytes) => {
                self.cells.write(start, &bytes[..len]);
                bytes.complete_with(len, IoError::END);
            }
            Err(view) => {
                let mut copy = vec![0; len];
                let transferred = view.transfer_data(&mut copy);
                self.cells.write(start, &copy);
                transferred.complete();
            }
        }
    }
}

impl ReadNow for MemoryDevice {
    #[inline]
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        let len = into.remaining();
        if let Some((start, there)) = self.clamp(position, len)
            && there == len
        {
            // SAFETY: `len` bytes remain, and all of them are written.
            unsafe {
                self.cells.read(start, into.unfilled_ptr(), len);
                into.advance_unchecked(len);
            }
        }
    }
}

impl Limiting for MemoryDevice {
    fn limits(&self) -> Limits {
        Limits::NONE.with_zero_copy()
    }
}

impl Zero for MemoryDevice {
    /// Memory is not given back.
    fn zero(&self, range: Range<u64>, _: ZeroMode, answer: Answer) {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        match self.clamp(range.start, len) {
            Some((start, there)) if there == len => {
                self.cells.zero(start, len);
                answer.done();
            }
            _ => answer.error(IoError::END),
        }
    }
}

impl Describe for MemoryDevice {
    fn stat(&self, answer: Records<Stat>) {
        let key = format!("{} of process {}", self.number, std::process::id());
        let stat = Stat::of(Kind::MEMORY).with_size(self.cells.len() as u64);
        answer.complete_one(Ok::<_, IoError>(stat.with_identity(Identity::stored("memory", key))));
    }
}
