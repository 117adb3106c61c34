//! The memory of a process.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use pactio_sdk::{
    BackendDevice, Batch, BoundPacketView, Code, DeviceInfo, Driven, IoError, Limits, Mapping, PollingHandle,
    Read, Records, Region, Submission, Write,
};

use crate::gather::Gather;
use crate::regions;
use crate::scatter::Scatter;
use crate::target::Target;

/// A process, and what waits to be copied.
pub(crate) struct ProcessDevice {
    target: Target,
    memory: Memory,
    writable: bool,
    driven: Driven<(Gather, Scatter)>,
}

/// Which of its addresses are positions.
pub(crate) enum Memory {
    /// All, each its own.
    All,
    /// A piece that was made for the device, from zero on.
    Own(NonNull<u8>, Layout),
}

// SAFETY: the piece is only reached by system calls, as the memory of another process would be.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn own(size: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size, 4096).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout has a size.
        Some(Self::Own(NonNull::new(unsafe { alloc_zeroed(layout) })?, layout))
    }

    /// The address of a position and how much there is from it on.
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
            // SAFETY: it was allocated with this layout, and is dropped once.
            unsafe { dealloc(start.as_ptr(), *layout) };
        }
    }
}

impl ProcessDevice {
    pub(crate) fn new(target: Target, memory: Memory, writable: bool) -> Self {
        Self { target, memory, writable, driven: Driven::new(Default::default()) }
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

    fn limits(&self) -> Limits {
        Limits::NONE.with_zero_copy().with_in_flight(64)
    }

    fn mapping(&self) -> Option<&dyn Mapping> {
        matches!(self.memory, Memory::All).then_some(self)
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

impl Mapping for ProcessDevice {
    fn map(&self, from: u64, mut answer: Records<Region>) {
        let text = match fs::read(format!("/proc/{}/maps", self.target.pid())) {
            _ if !self.target.is_alive() => return answer.error(IoError::from_code(Code::DISCONNECTED)),
            Ok(text) => text,
            Err(error) => return answer.error(error.into()),
        };
        let text = String::from_utf8_lossy(&text);
        for region in regions::parse(&text).filter(|region| region.range.end > from) {
            if !answer.push(&region) {
                return answer.complete(Some(region.range.start.max(from)));
            }
        }
        answer.complete(None);
    }
}
