//! Reads a device from front to back with several requests in flight.

use std::collections::VecDeque;

use pactio::{Code, Device, Error, Host, Report, Task};

use super::failure::Failure;
use super::{Flow, Range};

/// The blocks of a range, in order.
pub(super) struct Stream<'h> {
    host: &'h Host,
    device: Device,
    range: Range,
    block_size: usize,
    in_flight: VecDeque<Pending>,
    depth: usize,
    /// Start of the next request, relative to the range.
    requested: u64,
    /// Number of bytes that were given out.
    done: u64,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    ended: bool,
    /// The failure to report after the last good block.
    failed: Option<Failure>,
}

/// A request for `len` bytes.
struct Pending {
    len: usize,
    task: Task<Result<(Report, Vec<u8>), Error>>,
}

impl<'h> Stream<'h> {
    pub(super) fn new(host: &'h Host, device: Device, range: Range, flow: Flow) -> Self {
        let depth = flow.in_flight(&device).into();
        Self {
            host,
            device,
            range,
            block_size: flow.block_size,
            in_flight: VecDeque::new(),
            depth,
            requested: 0,
            done: 0,
            spare: Vec::new(),
            ended: false,
            failed: None,
        }
    }

    /// Number of bytes so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Expected number of bytes, if that is known.
    pub(super) fn expected(&self) -> Option<u64> {
        // Systems report a size of 0 for files that are made when they are read.
        let size = self.device.size().filter(|&size| size > 0);
        let rest = size.map(|size| size.saturating_sub(self.range.offset));
        match (rest, self.range.length) {
            (Some(rest), Some(length)) => Some(rest.min(length)),
            (rest, length) => rest.or(length),
        }
    }

    /// Sends requests until `depth` are in flight.
    fn fill(&mut self) {
        while self.in_flight.len() < self.depth && !self.ended {
            let left = self.range.length.map_or(u64::MAX, |length| length - self.requested);
            let len = left.min(self.block_size as u64) as usize;
            // Behind the end that is known now, only one request at a time looks for more bytes.
            let behind = self.expected().is_none_or(|expected| self.requested >= expected);
            if len == 0 || (behind && !self.in_flight.is_empty()) {
                return;
            }
            let Some(position) = self.range.offset.checked_add(self.requested) else { return };
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.resize(len, 0);
            let device = self.device.clone();
            let task = self.host.spawn(async move { device.read_at(position, buffer).await });
            self.in_flight.push_back(Pending { len, task });
            self.requested += len as u64;
        }
    }

    /// The next block; `None` at the end of the range or of the device.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        self.fill();
        let Some(Pending { len, task }) = self.in_flight.pop_front() else { return Ok(None) };
        let (report, mut block) = task.await?;
        let done = report.error_clamp();
        if let Some((_, error)) = report.min_error() {
            self.ended = true;
            self.in_flight.clear();
            if error.code() != Code::END {
                if error.code() == Code::IS_DIRECTORY {
                    return Err(Failure::folder(self.device.url()));
                }
                let position = self.range.offset + self.done;
                let failure = Failure::new(format!(
                    "cannot read {len} bytes at {position:#x} of '{}' (plugin '{}'): {report}",
                    self.device.url(),
                    self.device.plugin().manifest().id
                ));
                if done == 0 {
                    return Err(failure);
                }
                // The bytes before the failure are given out first.
                self.failed = Some(failure);
            }
        }
        self.done += done as u64;
        block.truncate(done);
        Ok((done > 0).then_some(block))
    }

    /// Gives a block's memory back.
    pub(super) fn recycle(&mut self, block: Vec<u8>) {
        self.spare.push(block);
    }

    /// Reports the missing part of the requested range.
    pub(super) fn account(&self) -> Result<(), Failure> {
        let Range { offset, length } = self.range;
        let url = self.device.url();
        match length {
            Some(length) if self.done < length => Err(Failure::incomplete(format!(
                "{} of {length} bytes at {offset:#x} of '{url}'; {}..{length}: past the end of the device",
                self.done, self.done
            ))),
            None if self.done == 0 && self.device.size().is_some_and(|size| offset > size) => {
                Err(Failure::incomplete(format!(
                    "there is nothing at {offset:#x} of '{url}'; it ends at {:#x}",
                    self.device.size().unwrap_or(0)
                )))
            }
            _ => Ok(()),
        }
    }
}
