//! Decompresses a file in one call.

use std::sync::Arc;

use pactio_sdk::{Cause, Code, IoError, PacketBox, Write, WritePacketObj};

use crate::block::Block;
use crate::compressed::{CompressedFile, Part, fail};
use crate::decoding::Ticket;

/// The reason why waiting parts could not be served.
enum Failed {
    /// The bytes are corrupt. The function fails the parts that were taken.
    Corrupt(Box<dyn FnOnce(&Cause) + Send>),
    /// The compressed bytes cannot be used.
    Unread(IoError),
}

impl CompressedFile {
    /// If a part still waits, reads the compressed bytes, and decompresses them on one of the pool's threads. `ticket` is the
    /// file's share of the bytes that may be under way.
    pub(crate) fn load(self: &Arc<Self>, ticket: Ticket) {
        if self.end_if_idle() {
            return;
        }
        self.fetch(0, self.source.coded.packed, move |this, packet| {
            this.decode(&packet);
            // The ticket is dropped last, because the drop may run the next job on this thread.
            drop(ticket);
        });
    }

    /// Ends the decompression if no part waits; gives whether it has ended. Both happen under one lock, so that a part which
    /// comes later begins a new decompression.
    fn end_if_idle(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.waiting.is_empty();
        !state.running
    }

    /// Serves the waiting parts until none is left; more may come during the decompression. `packed` is the whole compressed
    /// file.
    fn decode(self: &Arc<Self>, packed: &PacketBox<Write>) {
        let _working = self.working();
        let mut kept = None;
        loop {
            if self.end_if_idle() {
                return;
            }
            let parts = std::mem::take(&mut self.lock().waiting);
            match self.serve(packed, parts, &mut kept) {
                Ok(()) => {}
                Err(Failed::Corrupt(also)) => return self.abandon_as_corrupt(also),
                Err(Failed::Unread(error)) => return self.abandon(error),
            }
        }
    }

    /// Answers `parts`. If a single part waits and covers the whole file, the bytes are decompressed into its memory, and
    /// are not kept. Otherwise they are decompressed into `kept`, once for all calls with this `kept`.
    fn serve(
        &self,
        packed: &PacketBox<Write>,
        mut parts: Vec<Part>,
        kept: &mut Option<Arc<Block>>,
    ) -> Result<(), Failed> {
        for part in std::mem::take(&mut parts) {
            match part.unwanted() {
                Some(error) => part.view.error(error),
                None => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let packed =
            packed.simple_contiguous_slice().map_err(|_| Failed::Unread(IoError::from_code(Code::IO)))?;
        let size = self.source.coded.size as usize;
        if kept.is_none() && parts.len() == 1 && parts[0].view.len() == size {
            let part = parts.remove(0);
            match part.view.try_alloc(1) {
                Ok(memory) => return self.decode_into(packed, memory),
                Err(view) => parts.push(Part { view, ..part }),
            }
        }
        if kept.is_none() {
            let mut block = Block::zeroed(size);
            match self.source.coded.codec.whole(packed, block.bytes_mut(), self.source.coded.crc) {
                Ok(()) => {}
                // The file is not corrupt: a later request tries again.
                Err(IoError::OUT_OF_MEMORY) => {
                    fail(parts, IoError::OUT_OF_MEMORY);
                    return Ok(());
                }
                Err(_) => return Err(Failed::Corrupt(Box::new(|cause| fail(parts, cause.clone())))),
            }
            self.decoding.decoded(size);
            let block = Arc::new(block);
            self.keep(0, block.clone());
            *kept = Some(block);
        }
        if let Some(block) = kept {
            parts.into_iter().for_each(|part| part.answer(block.bytes()));
        }
        Ok(())
    }

    /// Decompresses the whole file into the memory of the one part that wants it.
    fn decode_into(&self, packed: &[u8], mut memory: WritePacketObj) -> Result<(), Failed> {
        match self.source.coded.codec.whole(packed, memory.unfilled_mut(), self.source.coded.crc) {
            Ok(()) => {
                let size = memory.len();
                memory.advance(size);
                memory.complete();
                self.decoding.decoded(size);
                Ok(())
            }
            Err(error @ IoError::OUT_OF_MEMORY) => {
                // Not corrupt: a later request tries again.
                memory.fail(&error.into());
                Ok(())
            }
            Err(_) => Err(Failed::Corrupt(Box::new(|cause| memory.fail(cause)))),
        }
    }
}
