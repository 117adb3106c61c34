//! Requests that are being filled, in order, by bytes that arrive.

use pactio_sdk::{BoundPacketView, Cause, IoError, Write, WritePacketObj};

/// Parts of requests that one answer of a server fills.
pub(crate) struct Outstanding {
    parts: Vec<Filling>,
    given: u64,
}

struct Filling {
    position: u64,
    memory: Memory,
}

/// The destination of a part's bytes.
enum Memory {
    Direct(WritePacketObj),
    /// The request has no memory of its own that can be written.
    Copied(BoundPacketView<Write>, Vec<u8>),
}

impl Filling {
    fn new(position: u64, view: BoundPacketView<Write>) -> Self {
        // Bytes need no alignment, so it is 1.
        let memory = match view.try_alloc(1) {
            Ok(memory) => Memory::Direct(memory),
            Err(view) => Memory::Copied(view, Vec::new()),
        };
        Self { position, memory }
    }

    /// The position of the next byte, and the position behind the last byte.
    fn left(&self) -> (u64, u64) {
        let (filled, len) = match &self.memory {
            Memory::Direct(memory) => (memory.filled(), memory.len()),
            Memory::Copied(view, bytes) => (bytes.len(), view.len()),
        };
        (self.position + filled as u64, self.position + len as u64)
    }

    fn put(&mut self, bytes: &[u8]) {
        match &mut self.memory {
            Memory::Direct(memory) => {
                memory.put_slice(bytes);
            }
            Memory::Copied(_, copied) => copied.extend_from_slice(bytes),
        }
    }

    /// All bytes of the part have arrived.
    fn complete(self) {
        match self.memory {
            Memory::Direct(memory) => memory.complete(),
            Memory::Copied(view, bytes) => view.transfer_data(&bytes).complete(),
        }
    }

    /// The bytes that have arrived are done; the rest fails.
    fn fail(self, cause: &Cause) {
        match self.memory {
            Memory::Direct(memory) => {
                let filled = memory.filled();
                let (front, behind) = memory.split_at(filled);
                front.complete();
                behind.fail(cause);
            }
            Memory::Copied(view, bytes) => {
                let (front, behind) = view.split_at(bytes.len());
                front.transfer_data(&bytes).complete();
                behind.fail(cause);
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        match &self.memory {
            Memory::Direct(memory) => memory.is_cancelled(),
            Memory::Copied(view, _) => view.is_cancelled(),
        }
    }
}

impl Outstanding {
    pub(crate) fn new(parts: Vec<(u64, BoundPacketView<Write>)>) -> Self {
        let parts = parts.into_iter().map(|(position, view)| Filling::new(position, view)).collect();
        Self { parts, given: 0 }
    }

    /// The range that is still to be read; `None` if all parts are complete.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let left = || self.parts.iter().map(Filling::left);
        Some((left().map(|(next, _)| next).min()?, left().map(|(_, end)| end).max()?))
    }

    /// The number of bytes that the parts have received.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// Gives bytes that begin at `position` to each part if its next byte is among them, and completes the parts that are full.
    pub(crate) fn give(&mut self, position: u64, bytes: &[u8]) {
        let behind = position + bytes.len() as u64;
        for part in &mut self.parts {
            let (next, end) = part.left();
            if next < position || next >= behind {
                continue;
            }
            let bytes = &bytes[(next - position) as usize..(end.min(behind) - position) as usize];
            part.put(bytes);
            self.given += bytes.len() as u64;
        }
        let done = |part: &mut Filling| {
            let (next, end) = part.left();
            next == end
        };
        self.parts.extract_if(.., done).for_each(Filling::complete);
    }

    pub(crate) fn drop_cancelled(&mut self) {
        let cancelled = Cause::from(IoError::CANCELLED);
        self.parts.extract_if(.., |part| part.is_cancelled()).for_each(|part| part.fail(&cancelled));
    }

    /// The device is closed.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
    }

    pub(crate) fn fail(self, cause: &Cause) {
        self.parts.into_iter().for_each(|part| part.fail(cause));
    }
}
