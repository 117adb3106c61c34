//! The same on the calling thread, straight into and out of the caller's memory.
//!
//! Borrowed memory may be lent to a device only if the caller cannot return or unwind before the request is complete.
//! That is what [`Complete`] holds: it waits in its drop.

use std::future::poll_fn;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::Poll;

use pactio_sdk::abi::{DeviceObj, PacketIo};
use pactio_sdk::{PacketBox, PacketPerms, Read, Report, Write};

use super::Device;
use crate::Error;
use crate::executor::block_on;

impl Device {
    /// Reads exactly `buffer.len()` bytes from `position`, without a copy in between.
    ///
    /// # Errors
    ///
    /// As [`read_exact_at`](Self::read_exact_at). `buffer` then holds what was read and, elsewhere, anything.
    pub fn blocking_read_exact_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let report = self.blocking_read_at(position, buffer)?;
        if report.is_done() { Ok(()) } else { Err(self.incomplete("read", position, report)) }
    }

    /// Reads what can be read, without a copy in between, and says what became of every byte.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn blocking_read_at(&self, position: u64, buffer: &mut [u8]) -> Result<Report, Error> {
        let bytes = NonNull::from(&mut *buffer).cast();
        // SAFETY: `buffer` is borrowed for this call, which neither returns nor unwinds before the packet is complete
        // (`Complete`), and its bytes are initialised.
        let packet = unsafe { PacketBox::<Write>::from_raw_parts(bytes, buffer.len(), true) };
        self.complete("read", position, packet)
    }

    /// Writes all of `buffer` to `position`, without a copy in between.
    ///
    /// # Errors
    ///
    /// As [`write_all_at`](Self::write_all_at).
    pub fn blocking_write_all_at(&self, position: u64, buffer: &[u8]) -> Result<(), Error> {
        let report = self.blocking_write_at(position, buffer)?;
        if report.is_done() { Ok(()) } else { Err(self.incomplete("write", position, report)) }
    }

    /// Writes what can be written, without a copy in between, and says what became of every byte.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn blocking_write_at(&self, position: u64, buffer: &[u8]) -> Result<Report, Error> {
        let bytes = NonNull::from(buffer).cast();
        // SAFETY: as in `blocking_read_at`; a `Read` packet is not written to.
        let packet = unsafe { PacketBox::<Read>::from_raw_parts(bytes, buffer.len(), true) };
        self.complete("write", position, packet)
    }

    fn complete<P: PacketPerms>(
        &self,
        what: &str,
        position: u64,
        packet: Result<PacketBox<P>, pactio_sdk::Error>,
    ) -> Result<Report, Error>
    where
        DeviceObj: PacketIo<P, u64>,
    {
        let mut packet = Complete(packet.map_err(|error| self.not_started(what, error))?);
        // One scope around submission and waiting, so that this thread drives what it wakes.
        block_on(async {
            let started = poll_fn(|cx| Poll::Ready(self.start(position, &mut packet.0, cx))).await;
            Pin::new(&mut packet.0).await;
            started
        })
        .map_err(|error| self.not_started(what, error))?;
        Ok(packet.0.report())
    }
}

/// A packet over borrowed memory: its drop waits until nobody uses that memory any more.
struct Complete<P: PacketPerms>(PacketBox<P>);

impl<P: PacketPerms> Drop for Complete<P> {
    fn drop(&mut self) {
        // Only after a panic in an executor or waker that is not ours. The driving thread still drives the device.
        while !self.0.is_complete() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
