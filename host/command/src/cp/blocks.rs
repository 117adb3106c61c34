//! Copies blocks, several at a time and in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use pactio::{Code, Device, Host, Task};
use sha2::{Digest, Sha256};

use super::source::Source;
use crate::failure::Failure;
use crate::progress::Progress;

/// A copy and its progress.
pub(super) struct Copy {
    host: Host,
    devices: Arc<Devices>,
    block_size: usize,
    /// Number of blocks that are copied at a time. No block is further ahead of the oldest one, so that a destination that wants
    /// its bytes roughly in order gets them so.
    depth: usize,
    under_way: VecDeque<Task<Result<Block, Failure>>>,
    /// Bounds the blocks of all copies.
    permits: Permits,
    spare: Vec<Vec<u8>>,
    /// The bytes up to this position of the source were copied.
    reached: u64,
    /// The digest of the copied bytes, if it is wanted.
    digest: Option<Sha256>,
}

/// The source and the destination.
struct Devices {
    source: Device,
    destination: Device,
    /// The position of the source that is position 0 of the destination.
    start: u64,
}

/// A block that was copied.
struct Block {
    position: u64,
    len: usize,
    /// The source ends behind this block.
    last: bool,
    /// The buffer, which begins with the bytes. It is used again.
    buffer: Vec<u8>,
}

impl Copy {
    pub(super) fn new(
        host: &Host,
        source: &Source,
        destination: Device,
        block_size: usize,
        in_flight: u16,
        permits: Permits,
        digest: bool,
    ) -> Self {
        // If the end is found by reading, one block at a time is copied: a source that grows meanwhile leaves no hole.
        let depth = if source.total.is_some() { in_flight.into() } else { 1 };
        let devices = Devices { source: source.device.clone(), destination, start: source.start };
        Self {
            host: host.clone(),
            devices: Arc::new(devices),
            block_size,
            depth,
            under_way: VecDeque::new(),
            permits,
            spare: Vec::new(),
            reached: source.start,
            digest: digest.then(Sha256::new),
        }
    }

    /// Number of bytes that were copied, with holes that were left out.
    pub(super) fn done(&self) -> u64 {
        self.reached - self.devices.start
    }

    /// Copies ranges of the source, in order. Holes between them are skipped: the destination has zeros there.
    /// After a failure, the copies of started blocks are still awaited.
    pub(super) async fn ranges(&mut self, data: Vec<Range<u64>>, progress: &Progress) -> Result<(), Failure> {
        let mut blocks = blocks(data, self.block_size as u64).peekable();
        let (mut ended, mut result) = (false, Ok(()));
        loop {
            while !ended && self.under_way.len() < self.depth {
                let Some(Range { start, end }) = blocks.next() else { break };
                let permit = self.permits.acquire().await;
                let mut buffer: Vec<u8> = self.spare.pop().unwrap_or_default();
                buffer.resize((end - start) as usize, 0);
                let devices = self.devices.clone();
                self.under_way.push_back(self.host.spawn(async move {
                    let _permit = permit;
                    devices.copy(start, buffer).await
                }));
            }
            let Some(oldest) = self.under_way.front_mut() else { return result };
            let block = oldest.await;
            self.under_way.pop_front();
            match block {
                Ok(block) if result.is_ok() => {
                    ended |= block.last;
                    let before = self.done();
                    result = self.add(block).await;
                    ended |= result.is_err();
                    progress.add(self.done() - before);
                }
                Ok(_) => {}
                Err(failure) => {
                    ended = true;
                    result = result.and(Err(failure));
                }
            }
        }
    }

    /// Adds a block to those that were copied; a stream gets its bytes here, in order.
    async fn add(&mut self, block: Block) -> Result<(), Failure> {
        let Block { position, len, mut buffer, .. } = block;
        if self.devices.destination.info().is_stream() {
            buffer = self.devices.send(self.reached - self.devices.start, buffer).await?;
        }
        self.pass_hole(position).await;
        if let Some(digest) = &mut self.digest {
            digest.update(&buffer[..len]);
        }
        self.reached = position + len as u64;
        self.spare.push(buffer);
        Ok(())
    }

    /// The source has a hole up to this position.
    pub(super) async fn pass_hole(&mut self, end: u64) {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        if let Some(digest) = &mut self.digest {
            let mut left = end - self.reached;
            while left > 0 {
                let len = left.min(ZEROS.len() as u64);
                digest.update(&ZEROS[..len as usize]);
                left -= len;
                // A hole may be large: a signal is seen meanwhile, and other copies go on.
                futures_lite::future::yield_now().await;
            }
        }
        self.reached = end;
    }

    /// The digest of the copied bytes, if it was wanted.
    pub(super) fn digest(&mut self) -> Option<[u8; 32]> {
        self.digest.take().map(|digest| digest.finalize().into())
    }

    /// Stops the copies of all blocks, and closes the destination.
    pub(super) async fn stop(self) {
        for task in self.under_way {
            let _ = task.cancel().await;
        }
    }
}

/// A number of blocks, or of files, that all copies together may have under way.
#[derive(Clone)]
pub(super) struct Permits(Sender<()>, Receiver<()>);

/// Permission for one block, or for one file. Its drop gives it back.
pub(super) struct Permit(Sender<()>);

impl Permits {
    pub(super) fn new(count: u16) -> Self {
        let (sender, receiver) = async_channel::bounded(count.into());
        while sender.try_send(()).is_ok() {}
        Self(sender, receiver)
    }

    pub(super) async fn acquire(&self) -> Permit {
        // The channel does not end: this value holds both of its sides.
        let _ = self.1.recv().await;
        Permit(self.0.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// The ranges in blocks of a size.
fn blocks(ranges: Vec<Range<u64>>, size: u64) -> impl Iterator<Item = Range<u64>> {
    ranges.into_iter().flat_map(move |Range { mut start, end }| {
        std::iter::from_fn(move || {
            let block = start..end.min(start.saturating_add(size));
            start = block.end;
            (!block.is_empty()).then_some(block)
        })
    })
}

impl Devices {
    /// Copies one block and gives the buffer back. For a stream, the block is only read.
    async fn copy(&self, position: u64, buffer: Vec<u8>) -> Result<Block, Failure> {
        let asked = buffer.len();
        let (report, mut buffer) = self.source.read_at(position, buffer).await?;
        let len = report.error_clamp();
        buffer.truncate(len);
        if !self.destination.info().is_stream() {
            buffer = self.destination.write_all_at(position - self.start, buffer).await?;
        }
        let block = |last| Block { position, len, last, buffer };
        match report.min_error() {
            None => Ok(block(false)),
            Some((_, error)) if error.code() == Code::END => Ok(block(true)),
            Some(_) => Err(Failure::new(format!(
                "cannot read {asked} bytes at {position:#x} of '{}': {report}",
                self.source.url()
            ))),
        }
    }

    /// Writes a block to a stream and gives the buffer back; `done` bytes were written before.
    async fn send(&self, done: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let (report, buffer) = self.destination.write_next(buffer).await?;
        match report.min_cause() {
            None => Ok(buffer),
            Some(_) => Err(Failure::new(format!(
                "cannot write {} bytes to '{}' (plugin '{}') behind the first {done}: {report}",
                buffer.len(),
                self.destination.url(),
                self.destination.plugin().manifest().id
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_range() {
        let all: Vec<_> = blocks(vec![0..10, 12..13, 20..20, u64::MAX - 3..u64::MAX], 4).collect();
        assert_eq!(all, [0..4, 4..8, 8..10, 12..13, u64::MAX - 3..u64::MAX]);
    }
}
