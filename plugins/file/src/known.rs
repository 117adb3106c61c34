//! Memory that a device was told of, and what queues of the kernel have registered of it: pages are looked up once then, and not for
//! each request.

#[cfg(target_os = "linux")]
pub(crate) use linux::{Known, Places};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Known;

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

    /// So many pieces there may be for each device. Queues have as many places, each for the piece of its number.
    const MOST: usize = 8;

    /// The kernel's bound for one piece.
    const LARGEST: usize = 1 << 30;

    type Pieces = [Option<Piece>; MOST];

    /// What a device was told of.
    #[derive(Default)]
    pub(crate) struct Known {
        pieces: Mutex<Pieces>,
        /// How often they have changed. Ordering: Relaxed. Memory is only used again after it was forgotten, and whoever does so
        /// sees this by the way that his request has come.
        version: AtomicU64,
    }

    #[derive(Clone, Copy)]
    struct Piece {
        /// Each time another one.
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

    impl Known {
        fn lock(&self) -> MutexGuard<'_, Pieces> {
            self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn version(&self) -> u64 {
            self.version.load(Ordering::Relaxed)
        }

        /// Takes a piece, and gives a number for it.
        pub(crate) fn register(&self, memory: MemoryRange) -> Result<u64, IoError> {
            if memory.is_empty() || memory.len() > LARGEST {
                return Err(IoError::from_code(Code::TOO_LARGE));
            }
            // Queues register it when they use it; this finds out whether they can.
            let (probe, piece) = (IoUring::new(1)?, Piece { number: 0, memory });
            // SAFETY: the memory is there until it is forgotten, and the probe ends here.
            unsafe { probe.submitter().register_buffers(&[piece.part()]) }?;
            // Closing it takes the kernel a while, in which it would count as locked twice.
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

    /// What a queue knows of a device's memory, and has registered of that.
    pub(crate) struct Places {
        pieces: Pieces,
        version: u64,
        /// The number of the piece in each place of the kernel's; 0 in those that are empty.
        registered: [u64; MOST],
        /// The number of the piece that the kernel last refused for each place.
        refused: [u64; MOST],
        /// The kernel has such places.
        possible: bool,
    }

    impl Places {
        pub(crate) fn new(ring: &IoUring) -> Self {
            let possible = ring.submitter().register_buffers_sparse(MOST as u32).is_ok();
            Self { pieces: [None; MOST], version: 0, registered: [0; MOST], refused: [0; MOST], possible }
        }

        /// Looks what the device was told of or has forgotten since the last time.
        pub(crate) fn refresh(&mut self, ring: &IoUring, known: &Known) {
            if self.version == known.version() {
                return;
            }
            let pieces = known.lock();
            (self.pieces, self.version) = (*pieces, known.version());
            drop(pieces);
            for place in 0..MOST {
                let number = self.pieces[place].map_or(0, |piece| piece.number);
                if self.registered[place] != 0 && self.registered[place] != number {
                    self.put(ring, place, 0, iovec { iov_base: ptr::null_mut(), iov_len: 0 });
                }
            }
        }

        /// The queue is for another device from now on.
        pub(crate) fn clear(&mut self, ring: &IoUring) {
            self.refresh(ring, &Known::default());
        }

        fn put(&mut self, ring: &IoUring, place: usize, number: u64, part: iovec) -> bool {
            // SAFETY: the memory is there until it is forgotten, from when on it is not used, and taken back at the next look. The
            // kernel keeps the pages until then.
            let put = unsafe { ring.submitter().register_buffers_update(place as u32, &[part], None) };
            (self.registered[place], self.refused[place]) =
                if put.is_ok() { (number, 0) } else { (0, number) };
            put.is_ok()
        }

        /// The place of what has the memory of a step, if anything has.
        fn of(&mut self, ring: &IoUring, step: &Step) -> Option<u16> {
            // Without any, as mostly, this is all.
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

        /// The read of a step. The file's flags, and the caller's, are still to be set.
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

        /// The write of a step.
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

    /// Nothing is.
    #[derive(Default)]
    pub(crate) struct Known;

    impl Known {
        pub(crate) fn register(&self, _: MemoryRange) -> Result<u64, IoError> {
            Err(IoError::UNSUPPORTED)
        }

        pub(crate) fn forget(&self, _: u64) {}
    }
}
