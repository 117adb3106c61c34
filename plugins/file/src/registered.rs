//! Memory that was registered with a device, and the part of it that is registered with queues of the kernel. The kernel looks up
//! the pages of registered memory once, and not for each request.

#[cfg(target_os = "linux")]
pub(crate) use linux::{Places, RegisteredMemory};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::RegisteredMemory;

#[cfg(target_os = "linux")]
mod linux {
    use std::ptr;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use io_uring::squeue::Entry;
    use io_uring::{IoUring, opcode, types};
    use libc::iovec;
    use pactio_sdk::{Code, IoError, MemoryRange};

    use crate::job::Step;

    /// Maximum number of pieces for each device. Queues have as many places, each for the piece of the same index.
    const MAX_PIECES: usize = 8;

    /// The kernel's bound for one piece.
    const LARGEST: usize = 1 << 30;

    type Pieces = [Option<Piece>; MAX_PIECES];

    /// The memory that was registered with a device.
    #[derive(Default)]
    pub(crate) struct RegisteredMemory {
        pieces: Mutex<Pieces>,
        /// Number of changes of the pieces. Ordering: Relaxed. An address is used again only after its memory was forgotten, and
        /// the hand-over of the later request makes this change visible to the thread that performs it.
        version: AtomicU64,
    }

    #[derive(Clone, Copy)]
    struct Piece {
        /// A new number for each registration.
        number: u64,
        memory: MemoryRange,
    }

    impl Piece {
        fn part(&self) -> iovec {
            iovec { iov_base: self.memory.start().as_ptr().cast(), iov_len: self.memory.len() }
        }

        fn has(&self, step: &Step) -> bool {
            let skip = step.memory.addr().checked_sub(self.memory.start().addr().get());
            skip.is_some_and(|skip| skip <= self.memory.len() && step.len <= self.memory.len() - skip)
        }
    }

    impl RegisteredMemory {
        fn lock(&self) -> MutexGuard<'_, Pieces> {
            self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn version(&self) -> u64 {
            self.version.load(Ordering::Relaxed)
        }

        /// Takes a piece, and returns a number for it.
        pub(crate) fn register(&self, memory: MemoryRange) -> Result<u64, IoError> {
            if memory.is_empty() || memory.len() > LARGEST {
                return Err(IoError::from_code(Code::TOO_LARGE));
            }
            // Queues register the memory at their first use of it; the probe tests whether they can.
            let (probe, piece) = (IoUring::new(1)?, Piece { number: 0, memory });
            // SAFETY: the memory exists until it is forgotten, and the probe ends in this function.
            unsafe { probe.submitter().register_buffers(&[piece.part()]) }?;
            // The kernel closes the probe with a delay. Without this call, the memory would count as locked twice for that time.
            probe.submitter().unregister_buffers()?;
            let mut pieces = self.lock();
            let Some(place) = pieces.iter_mut().find(|place| place.is_none()) else {
                return Err(IoError::from_code(Code::BUSY));
            };
            let number = self.version.fetch_add(1, Ordering::Relaxed) + 1;
            *place = Some(Piece { number, memory });
            Ok(number)
        }

        pub(crate) fn forget(&self, number: u64) {
            let mut pieces = self.lock();
            if let Some(place) =
                pieces.iter_mut().find(|place| place.is_some_and(|piece| piece.number == number))
            {
                *place = None;
                self.version.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A queue's copy of a device's pieces, and those that the queue has registered.
    pub(crate) struct Places {
        pieces: Pieces,
        version: u64,
        /// The number of the piece in each of the kernel's places; 0 for empty places.
        registered: [u64; MAX_PIECES],
        /// The number of the piece that the kernel last refused for each place.
        refused: [u64; MAX_PIECES],
        /// The kernel supports such places.
        possible: bool,
    }

    impl Places {
        pub(crate) fn new(ring: &IoUring) -> Self {
            let possible = ring.submitter().register_buffers_sparse(MAX_PIECES as u32).is_ok();
            Self {
                pieces: [None; MAX_PIECES],
                version: 0,
                registered: [0; MAX_PIECES],
                refused: [0; MAX_PIECES],
                possible,
            }
        }

        /// Takes over the device's pieces if they have changed, and unregisters those that were forgotten.
        pub(crate) fn refresh(&mut self, ring: &IoUring, known: &RegisteredMemory) {
            if self.version == known.version() {
                return;
            }
            let pieces = known.lock();
            (self.pieces, self.version) = (*pieces, known.version());
            drop(pieces);
            for place in 0..MAX_PIECES {
                let number = self.pieces[place].map_or(0, |piece| piece.number);
                if self.registered[place] != 0 && self.registered[place] != number {
                    self.put(ring, place, 0, iovec { iov_base: ptr::null_mut(), iov_len: 0 });
                }
            }
        }

        /// Unregisters all pieces: the queue is for another device from now on.
        pub(crate) fn clear(&mut self, ring: &IoUring) {
            self.refresh(ring, &RegisteredMemory::default());
        }

        fn put(&mut self, ring: &IoUring, place: usize, number: u64, part: iovec) -> bool {
            // SAFETY: the memory exists until it is forgotten. From then on it is not used, and the next refresh unregisters it.
            // The kernel keeps the pages until then.
            let put = unsafe { ring.submitter().register_buffers_update(place as u32, &[part], None) };
            (self.registered[place], self.refused[place]) =
                if put.is_ok() { (number, 0) } else { (0, number) };
            put.is_ok()
        }

        /// The place of the piece that has the memory of a step, if there is one.
        fn of(&mut self, ring: &IoUring, step: &Step) -> Option<u16> {
            // The usual case, without registered memory, ends here.
            if self.version == 0 || !self.possible {
                return None;
            }
            let (place, piece) = (0..)
                .zip(&self.pieces)
                .find_map(|(place, piece)| Some(place).zip(piece.filter(|piece| piece.has(step))))?;
            let is_there = match piece.number {
                number if self.registered[place] == number => true,
                number if self.refused[place] == number => false,
                number => self.put(ring, place, number, piece.part()),
            };
            is_there.then_some(place as u16)
        }

        /// The entry for the read of a step. The caller has to set the entry's flags and number.
        pub(crate) fn read(&mut self, ring: &IoUring, file: types::Fd, step: &Step, flags: i32) -> Entry {
            let Step { memory, len, position } = *step;
            match self.of(ring, step) {
                Some(place) => opcode::ReadFixed::new(file, memory, len as u32, place)
                    .offset(position)
                    .rw_flags(flags)
                    .build(),
                None => opcode::Read::new(file, memory, len as u32).offset(position).rw_flags(flags).build(),
            }
        }

        /// The entry for the write of a step. The caller has to set the entry's flags and number.
        pub(crate) fn write(&mut self, ring: &IoUring, file: types::Fd, step: &Step) -> Entry {
            let Step { memory, len, position } = *step;
            match self.of(ring, step) {
                Some(place) => {
                    opcode::WriteFixed::new(file, memory, len as u32, place).offset(position).build()
                }
                None => opcode::Write::new(file, memory, len as u32).offset(position).build(),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use pactio_sdk::{IoError, MemoryRange};

    /// No memory can be registered.
    #[derive(Default)]
    pub(crate) struct RegisteredMemory;

    impl RegisteredMemory {
        pub(crate) fn register(&self, _: MemoryRange) -> Result<u64, IoError> {
            Err(IoError::UNSUPPORTED)
        }

        pub(crate) fn forget(&self, _: u64) {}
    }
}
