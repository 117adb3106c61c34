//! A read or a write in progress: its finished part, and its next step.

use std::fs::File;
use std::mem::MaybeUninit;

use pactio_sdk::{
    BoundPacketView, Code, IoError, PacketPerms, Read, ReadPacketObj, TransferredPacket, Urgent, Write,
    WritePacketObj,
};
use rustix::io::{Errno, pread, pwrite};

/// Maximum number of bytes of one call: the system's own limit is a little below 2 GiB.
const LARGEST: usize = 1 << 30;

/// A request and its progress. A job that is dropped fails.
pub(crate) struct Job {
    bytes: Bytes,
    position: u64,
    done: usize,
    /// Positions and lengths are multiples of this.
    alignment: usize,
}

enum Bytes {
    /// Straight into the packet.
    In(WritePacketObj),
    /// Into memory of the job, if the packet has no memory or its memory is not aligned.
    InCopy(BoundPacketView<Write>, Aligned),
    /// Straight out of the packet.
    Out(ReadPacketObj),
    /// Out of memory of the job. The view is settled when the number of written bytes is known.
    OutCopy(TransferredPacket<Read>, Aligned),
    /// The view was answered already, since there was no memory for it.
    None,
}

/// The next call for a job: it moves `len` bytes between `memory` and the file at `position`.
pub(crate) struct Step {
    pub(crate) memory: *mut u8,
    pub(crate) len: usize,
    pub(crate) position: u64,
}

/// The result of a call.
pub(crate) enum Outcome {
    /// There is more to do.
    More(Job),
    /// The request was answered.
    Answered,
}

impl Urgent for Job {
    fn urgency(&self) -> i8 {
        match &self.bytes {
            Bytes::In(bytes) => bytes.as_view().urgency(),
            Bytes::InCopy(view, _) => view.urgency(),
            Bytes::Out(bytes) => bytes.as_view().urgency(),
            Bytes::OutCopy(..) | Bytes::None => 0,
        }
    }
}

impl Job {
    /// A read into memory that is aligned to `alignment`.
    pub(crate) fn read(position: u64, view: BoundPacketView<Write>, alignment: usize) -> Self {
        let bytes = match view.try_alloc(alignment) {
            Ok(bytes) => Bytes::In(bytes),
            Err(view) => match Aligned::zeroed(view.len()) {
                Some(memory) => Bytes::InCopy(view, memory),
                None => no_memory(view),
            },
        };
        Self { bytes, position, done: 0, alignment }
    }

    /// A write out of memory that is aligned to `alignment`.
    pub(crate) fn write(position: u64, view: BoundPacketView<Read>, alignment: usize) -> Self {
        let bytes = match view.try_alloc(alignment) {
            Ok(bytes) => Bytes::Out(bytes),
            Err(view) => match Aligned::zeroed(view.len()) {
                Some(mut memory) => Bytes::OutCopy(view.transfer_data(memory.bytes()), memory),
                None => no_memory(view),
            },
        };
        Self { bytes, position, done: 0, alignment }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.bytes {
            Bytes::In(bytes) => bytes.len(),
            Bytes::InCopy(_, memory) | Bytes::OutCopy(_, memory) => memory.len,
            Bytes::Out(bytes) => bytes.len(),
            Bytes::None => 0,
        }
    }

    /// Whether a part of the request is done.
    pub(crate) fn is_begun(&self) -> bool {
        self.done > 0
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.bytes, Bytes::In(_) | Bytes::InCopy(..))
    }

    /// Whether the result is not wanted any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &self.bytes {
            Bytes::In(bytes) => bytes.is_cancelled(),
            Bytes::InCopy(view, _) => view.is_cancelled(),
            Bytes::Out(bytes) => bytes.is_cancelled(),
            Bytes::OutCopy(..) | Bytes::None => false,
        }
    }

    /// Ends the job, since its result is not wanted any more.
    pub(crate) fn cancel(self) {
        self.answer(IoError::CANCELLED);
    }

    /// The next step; the outcome, if there is none. The step's memory belongs to the job until the job is answered or dropped.
    pub(crate) fn step(mut self) -> Result<(Self, Step), Outcome> {
        let position = self.position.saturating_add(self.done as u64);
        let room = usize::try_from((i64::MAX as u64).saturating_sub(position)).unwrap_or(usize::MAX);
        let len = (self.len() - self.done).min(room).min(LARGEST);
        if len == 0 {
            return Err(self.end());
        }
        let memory = match &mut self.bytes {
            Bytes::In(bytes) => bytes.unfilled_ptr(),
            // SAFETY: `done` is at most the length of `memory`.
            Bytes::InCopy(_, memory) | Bytes::OutCopy(_, memory) => unsafe {
                memory.bytes().as_mut_ptr().add(self.done)
            },
            // SAFETY: `done` is at most the length of the packet's bytes. A write request's step only reads this memory.
            Bytes::Out(bytes) => unsafe { bytes.as_ptr().add(self.done).cast_mut() },
            Bytes::None => return Err(Outcome::Answered),
        };
        Ok((self, Step { memory, len, position }))
    }

    /// Records that a step moved `count` bytes.
    ///
    /// # Safety
    ///
    /// The step has moved `count` bytes, and for a read, they are in the step's memory.
    pub(crate) unsafe fn moved(mut self, count: usize) -> Outcome {
        if count == 0 {
            return self.end();
        }
        if let Bytes::In(bytes) = &mut self.bytes {
            // SAFETY: the caller promises that `count` bytes were read into the memory that `step` has given.
            unsafe { bytes.advance_unchecked(count) };
        }
        self.done += count;
        // Part of a block is moved only at the end of the file.
        let over = self.done == self.len() || !count.is_multiple_of(self.alignment);
        if over { self.end() } else { Outcome::More(self) }
    }

    /// Handles a failed step.
    pub(crate) fn failed(self, errno: Errno) -> Outcome {
        match errno {
            Errno::INTR => Outcome::More(self),
            errno => self.answer(error(errno)),
        }
    }

    /// Ends the job, since the system moves no more bytes.
    pub(crate) fn end(self) -> Outcome {
        let end = if self.is_read() { IoError::END } else { IoError::TOO_LARGE };
        self.answer(end)
    }

    /// Answers with the finished bytes; the rest, if there is one, fails with `error`.
    fn answer(self, error: IoError) -> Outcome {
        match self.bytes {
            Bytes::In(bytes) => bytes.complete_with(error),
            Bytes::InCopy(view, mut memory) => {
                view.transfer_data(&memory.bytes()[..self.done]).complete_with(self.done, error);
            }
            Bytes::Out(bytes) => bytes.complete_with(self.done, error),
            Bytes::OutCopy(transferred, _) => transferred.complete_with(self.done, error),
            Bytes::None => {}
        }
        Outcome::Answered
    }

    /// Performs the job on this thread, however long that takes.
    pub(crate) fn run(self, file: &File) {
        let mut job = self;
        if job.is_cancelled() {
            return job.cancel();
        }
        while let Ok((this, Step { memory, len, position })) = job.step() {
            let moved = if this.is_read() {
                // SAFETY: the step's memory is valid for writes of `len` bytes, and the job, which lives through the call, has no
                // other access to it. The slice may be uninitialised, and the system only writes to it.
                let memory = unsafe { std::slice::from_raw_parts_mut(memory.cast(), len) };
                pread::<_, &mut [MaybeUninit<u8>]>(file, memory, position).map(|(read, _)| read.len())
            } else {
                // SAFETY: the memory belongs to the job, which lives through the call. Its bytes are initialised, since they are
                // those of a write request.
                pwrite(file, unsafe { std::slice::from_raw_parts(memory, len) }, position)
            };
            let outcome = match moved {
                // SAFETY: the system call has returned `count` as the number of bytes that it has moved.
                Ok(count) => unsafe { this.moved(count) },
                Err(errno) => this.failed(errno),
            };
            match outcome {
                Outcome::More(next) => job = next,
                Outcome::Answered => return,
            }
        }
    }
}

fn no_memory<P: PacketPerms>(view: BoundPacketView<P>) -> Bytes {
    view.error(IoError::from_code(Code::OUT_OF_MEMORY));
    Bytes::None
}

pub(crate) fn error(errno: Errno) -> IoError {
    std::io::Error::from(errno).into()
}

/// Memory that starts at a page.
struct Aligned {
    pages: Vec<Page>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

impl Aligned {
    /// `None`, if the memory cannot be allocated.
    fn zeroed(len: usize) -> Option<Self> {
        let (mut pages, count) = (Vec::new(), len.div_ceil(4096));
        pages.try_reserve_exact(count).ok()?;
        pages.resize(count, Page([0; 4096]));
        Some(Self { pages, len })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages are plain bytes, of which there are at least `len`.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.len) }
    }
}
