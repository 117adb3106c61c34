//! The memory of a process.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use pactio_sdk::{
    BackendDevice, Batch, BoundPacketView, Code, Describe, DeviceInfo, Driven, ExtensionQuery, Identity,
    IoError, Kind, Limiting, Limits, ListCursors, Mapping, PollingHandle, Read, Records, Region, Stat,
    Submission, Write,
};

use crate::content;
use crate::files::ProcFiles;
use crate::gather::Gather;
use crate::regions;
use crate::scatter::Scatter;
use crate::target::Target;

/// A process, and the requests that wait to be copied.
pub(crate) struct ProcessDevice {
    target: Target,
    memory: Memory,
    writable: bool,
    driven: Driven<(Gather, Scatter)>,
    cursors: ListCursors<Region>,
}

/// The addresses of the process that are positions of the device.
pub(crate) enum Memory {
    /// All addresses. Each position is the address of the same number.
    All,
    /// Memory that was made for the device. Its positions begin at zero.
    Own(NonNull<u8>, Layout),
}

// SAFETY: the memory is only accessed by system calls, like the memory of another process.
unsafe impl Send for Memory {}
// SAFETY: the memory is only accessed by system calls, like the memory of another process.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn own(size: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size, 4096).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the size of the layout is not zero.
        Some(Self::Own(NonNull::new(unsafe { alloc_zeroed(layout) })?, layout))
    }

    /// The address of a position, and the number of bytes from there on.
    fn at(&self, position: u64) -> (u64, usize) {
        match self {
            Self::All => (position, usize::try_from(u64::MAX - position).unwrap_or(usize::MAX)),
            Self::Own(start, layout) => {
                let skipped = usize::try_from(position).map_or(layout.size(), |skip| skip.min(layout.size()));
                ((start.addr().get() + skipped) as u64, layout.size() - skipped)
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Self::Own(start, layout) = self {
            // SAFETY: the memory was allocated with this layout, and is freed once.
            unsafe { dealloc(start.as_ptr(), *layout) };
        }
    }
}

impl ProcessDevice {
    pub(crate) fn new(target: Target, memory: Memory, writable: bool) -> Self {
        Self {
            target,
            memory,
            writable,
            driven: Driven::new(Default::default()),
            cursors: ListCursors::default(),
        }
    }
}

impl BackendDevice for ProcessDevice {
    fn info(&self) -> DeviceInfo {
        let info = match self.memory {
            Memory::All => DeviceInfo::endless(),
            Memory::Own(_, layout) => DeviceInfo::with_size(layout.size() as u64),
        };
        if self.writable { info } else { info.read_only() }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.driven.read(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        if self.writable {
            self.driven.write(position, view);
        } else {
            view.error(IoError::UNSUPPORTED);
        }
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.driven.read_batch(batch);
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        if self.writable {
            self.driven.write_batch(batch);
        } else {
            batch.for_each(|(_, view)| view.error(IoError::UNSUPPORTED));
        }
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Limiting>(self).offer::<dyn Describe>(self);
        if matches!(self.memory, Memory::All) {
            query.offer::<dyn Mapping>(self);
        }
    }

    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::Waker
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.driven.poll(cx, |(gather, scatter), requests, cx| {
            for Submission { param, view } in requests.reads.drain(..) {
                let (address, room) = self.memory.at(param);
                gather.read(address, room, view);
            }
            if !gather.run(&self.target) {
                cx.waker().wake_by_ref();
            }
            for Submission { param, view } in requests.writes.drain(..) {
                let (address, room) = self.memory.at(param);
                scatter.write(&self.target, address, room, view);
            }
            scatter.run(&self.target);
            Poll::Pending
        })
    }
}

impl Limiting for ProcessDevice {
    fn limits(&self) -> Limits {
        Limits::NONE.with_zero_copy().with_in_flight(64)
    }
}

impl Describe for ProcessDevice {
    fn stat(&self, answer: Records<Stat>) {
        let mut stat =
            Stat::of(Kind::MEMORY).with_identity(Identity::stored("process", self.target.identity()));
        stat.metadata.push(("pid".to_owned(), self.target.pid().to_string()));
        if let Memory::Own(start, layout) = &self.memory {
            stat = stat.with_size(layout.size() as u64);
            let key = format!("{} at {:#x}", self.target.identity(), start.addr());
            stat = stat.with_identity(Identity::stored("process", key));
        }
        answer.complete_one(Ok::<_, IoError>(stat));
    }
}

impl Mapping for ProcessDevice {
    /// All answers of a list are of one snapshot, for which the map is read once.
    fn map(&self, from: u64, answer: Records<Region>) {
        let rest = self.cursors.take(&[], from).map_or_else(|| self.regions_from(from), Ok);
        match rest {
            Ok(rest) => self.cursors.answer(Vec::new(), from, rest, answer, |_, region| region.range.end),
            Err(error) => answer.error(error),
        }
    }
}

impl ProcessDevice {
    /// The regions that end behind an address, as they are now.
    fn regions_from(&self, from: u64) -> Result<IntoIter<Region>, IoError> {
        match fs::read(format!("/proc/{}/maps", self.target.pid())) {
            _ if !self.target.is_alive() => Err(IoError::from_code(Code::DISCONNECTED)),
            Ok(text) => {
                let files = ProcFiles::default();
                let regions = regions::parse(&text).filter(|region| region.range.end > from);
                let regions =
                    regions.flat_map(|region| content::by_content(region, files.pagemap(&self.target).ok()));
                let regions = regions.filter(|region| region.range.end > from);
                Ok(regions.collect::<Vec<_>>().into_iter())
            }
            Err(error) => Err(error.into()),
        }
    }
}
