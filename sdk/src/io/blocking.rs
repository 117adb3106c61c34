//! Requests that block the calling thread, directly into and out of the caller's memory.
//!
//! Borrowed memory may be lent to a device only if the caller cannot return or unwind before the request is complete (rule P1).
//! [`Lent`] ensures this: it waits in its drop.

use core::future::poll_fn;
use core::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

use bytemuck::{AnyBitPattern, NoUninit};

use super::{Internal, IoRead, IoWrite, PacketIo, Param, admit, send_now};
use crate::{Filling, IoError, PacketPerms, PacketStore, Read, ReadWrite, RefPacket, Report, Write};

/// Waits for a future on the calling thread, and polls the drivers that the future needs to make progress.
pub trait BlockOn {
    /// Polls `future` to its end.
    fn block_on<F: Future>(&self, future: F) -> F::Output;

    /// Calls `f`. The argument is `true` if requests that this thread submits meanwhile may be
    /// [queued](super::Submitted::Queued). The next `block_on` sends the queued requests, or the return of this function does.
    /// For the host.
    #[doc(hidden)]
    fn together<R>(&self, f: impl FnOnce(bool) -> R, _: Internal) -> R {
        f(false)
    }
}

impl<T: BlockOn + ?Sized> BlockOn for &T {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        (**self).block_on(future)
    }

    fn together<R>(&self, f: impl FnOnce(bool) -> R, internal: Internal) -> R {
        (**self).together(f, internal)
    }
}

/// Requests that work on the caller's memory without a copy, and return when they are complete.
///
/// A device that never answers a view blocks its caller for ever: memory that the device may still write to cannot be given back.
pub trait BlockingIo<P: Param>: BlockOn {
    /// Reads all bytes that can be read, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the request could not be made. A failure that the device reports is not an error here.
    fn blocking_read_raw(&self, param: P, buffer: &mut [u8]) -> Result<Report, IoError>
    where
        Self: PacketIo<Write, P> + Sized,
    {
        // SAFETY: the buffer is borrowed for this call, and bytes are only written to it.
        if fill_now(self, &param, unsafe { Filling::from_raw(buffer.as_mut_ptr(), buffer.len()) }) {
            return Ok(Report::all_done(buffer.len()));
        }
        // SAFETY: `buffer` is borrowed for this call, and `lend` returns or unwinds only when the packet is complete.
        lend(self, param, unsafe { RefPacket::for_read(buffer) }?)
    }

    /// Reads all of `buffer`.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not read. `buffer` then holds the bytes that were read; its other bytes are
    /// unspecified.
    fn blocking_read_all(&self, param: P, buffer: &mut [u8]) -> Result<(), IoError>
    where
        Self: PacketIo<Write, P> + Sized,
    {
        self.blocking_read_raw(param, buffer)?.err_any()
    }

    /// Reads a value of plain data.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not read.
    fn blocking_read<T: AnyBitPattern>(&self, param: P) -> Result<T, IoError>
    where
        Self: PacketIo<Write, P> + Sized,
    {
        self.block_on(self.read(param))
    }

    /// Reads all bytes that can be read into memory that need not be initialised. Gives the result of every byte, and the leading
    /// part that was done.
    ///
    /// # Errors
    ///
    /// As [`blocking_read_raw`](Self::blocking_read_raw).
    fn blocking_read_uninit<'b>(
        &self,
        param: P,
        buffer: &'b mut [MaybeUninit<u8>],
    ) -> Result<(Report, &'b mut [u8]), IoError>
    where
        Self: PacketIo<Write, P> + Sized,
    {
        let report = if fill_now(self, &param, Filling::new(buffer)) {
            Report::all_done(buffer.len())
        } else {
            // SAFETY: `buffer` is borrowed for this call, and `lend` returns or unwinds only when the packet is complete.
            lend(self, param, unsafe { RefPacket::for_read_uninit(buffer) }?)?
        };
        let done = &mut buffer[..report.error_clamp()];
        // SAFETY: the leading part was done, so the device initialised it.
        Ok((report, unsafe { &mut *(core::ptr::from_mut(done) as *mut [u8]) }))
    }

    /// Reads until the device reports that it has no more bytes, and appends to `all`; gives the number of bytes.
    ///
    /// # Errors
    ///
    /// Any other error than [`Code::END`](crate::Code::END). The bytes that were read before it are in `all`.
    fn blocking_read_to_end(&self, param: P, all: &mut Vec<u8>) -> Result<usize, IoError>
    where
        Self: PacketIo<Write, P> + Sized,
    {
        self.block_on(self.read_to_end(param, all))
    }

    /// Writes all bytes that can be written, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// As [`blocking_read_raw`](Self::blocking_read_raw).
    fn blocking_write_raw(&self, param: P, buffer: &[u8]) -> Result<Report, IoError>
    where
        Self: PacketIo<Read, P> + Sized,
    {
        // SAFETY: `buffer` is borrowed for this call, and `lend` returns or unwinds only when the packet is complete.
        lend(self, param, unsafe { RefPacket::for_write(buffer) }?)
    }

    /// Writes all of `buffer`.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not written.
    fn blocking_write_all(&self, param: P, buffer: &[u8]) -> Result<(), IoError>
    where
        Self: PacketIo<Read, P> + Sized,
    {
        self.blocking_write_raw(param, buffer)?.err_any()
    }

    /// Writes a value of plain data.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not written.
    fn blocking_write<T: NoUninit>(&self, param: P, value: &T) -> Result<(), IoError>
    where
        Self: PacketIo<Read, P> + Sized,
    {
        self.block_on(IoWrite::write(self, param, value))
    }

    /// Exchanges all bytes that can be exchanged, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// As [`blocking_read_raw`](Self::blocking_read_raw).
    fn blocking_exchange_raw(&self, param: P, buffer: &mut [u8]) -> Result<Report, IoError>
    where
        Self: PacketIo<ReadWrite, P> + Sized,
    {
        // SAFETY: `buffer` is borrowed for this call, and `lend` returns or unwinds only when the packet is complete.
        lend(self, param, unsafe { RefPacket::for_exchange(buffer) }?)
    }
}

impl<D: BlockOn, P: Param> BlockingIo<P> for D {}

/// Reads from a device that has the bytes at hand; `false` if not all of it is filled.
#[inline(always)]
fn fill_now<D: PacketIo<Write, P>, P: Param>(device: &D, param: &P, mut filling: Filling<'_>) -> bool {
    let mut into = filling.unfilled();
    if into.is_full() || !param.reaches(into.remaining()) || !device.reads_now(Internal(())) {
        return false;
    }
    device.read_now(param.clone(), &mut into, Internal(()));
    filling.is_full()
}

/// Sends a packet over borrowed memory, and returns when it is complete.
#[inline]
fn lend<D: PacketIo<Perms, P> + BlockOn, Perms: PacketPerms, P: Param>(
    device: &D,
    param: P,
    packet: RefPacket<'_, Perms>,
) -> Result<Report, IoError> {
    let mut lent = Lent(packet);
    if let Some(admission) = admit(device, &param, lent.0.packet().len()) {
        device.block_on(admission);
    }
    let view = lent.0.packet_mut().bind()?;
    send_now(device, param, view);
    // Most devices in memory have answered by now.
    if !lent.0.packet().is_complete() {
        device.block_on(poll_fn(|cx| lent.0.packet_mut().poll_complete(cx)));
    }
    Ok(lent.0.packet().report())
}

/// A packet over borrowed memory: its drop waits until the memory is not in use any more.
struct Lent<'a, Perms: PacketPerms>(RefPacket<'a, Perms>);

impl<Perms: PacketPerms> Drop for Lent<'_, Perms> {
    #[inline]
    fn drop(&mut self) {
        wait_for(|| self.0.packet().is_complete());
    }
}

/// Waits by checking `done` every millisecond. Only needed if foreign code, such as an executor or a waker, has panicked while
/// devices still work.
#[inline]
pub(super) fn wait_for(done: impl Fn() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(1));
    }
}
