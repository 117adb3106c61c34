//! A device over another one with the same positions.

use core::task::{Context, Poll};

use super::Lower;
use crate::ext::{Capability, ExtensionQuery, ReadNow};
use crate::{
    BackendDevice, Batch, BoundPacketView, DeviceInfo, IoError, NoPos, PacketIo, PollingHandle, Read,
    ReadWrite, Write,
};

/// A device that sits on another one and has the same positions: `cache`, `limit`, a checksum, a cipher.
///
/// **Nothing passes a filter unless the filter says so.** A method that moves bytes and is neither implemented nor listed in
/// [`FORWARDS`](Self::FORWARDS) answers "unsupported"; so does an extension that is neither offered nor listed. A method or an
/// extension that a later version adds is in no existing list, so that it bypasses no filter.
///
/// A filter claims no more than the device below can do: [`info`](Self::info) and each extension that concerns the stored bytes
/// are and-ed with those of the device below. A device that shows other bytes at other positions, as `archive` and `core` do, or
/// that can do more than the device below, such as `cow`, which can always be written, implements [`BackendDevice`] itself.
///
/// ```
/// use pactio_sdk::{Capability, DerivedPacket, DeviceInfo, Filter, IoError, Lower, PacketIo, ReadView, ReboundPacket, Write};
///
/// /// Inverts each byte that is read. Writes are unsupported: a written byte would be read back inverted.
/// struct Inverted(Lower);
///
/// fn invert(bytes: &mut [u8]) {
///     bytes.iter_mut().for_each(|byte| *byte = !*byte);
/// }
///
/// impl Filter for Inverted {
///     const FORWARDS: &'static [Capability] = &[Capability::STAT, Capability::CANCELLATION];
///
///     fn lower(&self) -> &Lower {
///         &self.0
///     }
///
///     fn info(&self, lower: DeviceInfo) -> DeviceInfo {
///         lower.read_only()
///     }
///
///     fn read(&self, position: u64, view: ReadView) {
///         // If memory cannot be allocated, the view has failed already.
///         let _ = if view.has_bytes() { self.in_place(position, view) } else { self.copied(position, view) };
///     }
/// }
///
/// impl Inverted {
///     fn in_place(&self, position: u64, view: ReadView) -> Result<(), IoError> {
///         let fresh = ReboundPacket::new(view)?.bind_each(|mut part| {
///             part.bytes_mut().into_iter().for_each(invert);
///             part.complete();
///         })?;
///         self.0.send_io(position, fresh);
///         Ok(())
///     }
///
///     /// For requests whose bytes are not in memory, but are given to a function as they arrive.
///     fn copied(&self, position: u64, view: ReadView) -> Result<(), IoError> {
///         let memory = vec![0; view.len()];
///         let mut copy = DerivedPacket::<_, Write, Write>::new(view, memory)?;
///         let fresh = copy.bind()?;
///         copy.on_complete(|copy| {
///             let Ok((view, mut bytes, report)) = copy.into_parts() else { return };
///             invert(&mut bytes);
///             report.answer(&bytes, 0, view);
///         });
///         self.0.send_io(position, fresh);
///         Ok(())
///     }
/// }
/// ```
pub trait Filter: Send + Sync + 'static {
    /// The methods and extensions that go to the device below unchanged. A listed method of this trait is not called.
    const FORWARDS: &'static [Capability];

    /// The device below.
    fn lower(&self) -> &Lower;

    /// The info of the filter, made from the info of the device below. The result is and-ed with the info of the device below: a
    /// filter over a device that cannot be written cannot be written either.
    fn info(&self, lower: DeviceInfo) -> DeviceInfo {
        lower
    }

    /// See [`BackendDevice::read`].
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let _ = position;
        view.error(IoError::UNSUPPORTED);
    }

    /// See [`BackendDevice::write`].
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let _ = position;
        view.error(IoError::UNSUPPORTED);
    }

    /// See [`BackendDevice::exchange`].
    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        let _ = position;
        view.error(IoError::UNSUPPORTED);
    }

    /// See [`BackendDevice::read_batch`].
    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        batch.for_each(|(position, view)| self.read(position, view));
    }

    /// See [`BackendDevice::write_batch`].
    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        batch.for_each(|(position, view)| self.write(position, view));
    }

    /// See [`BackendDevice::read_next`].
    fn read_next(&self, view: BoundPacketView<Write>) {
        view.error(IoError::UNSUPPORTED);
    }

    /// See [`BackendDevice::write_next`].
    fn write_next(&self, view: BoundPacketView<Read>) {
        view.error(IoError::UNSUPPORTED);
    }

    /// Offers the extensions that the filter implements itself. An extension that concerns the stored bytes, such as
    /// [`Flush`](crate::Flush), counts only if the device below has it too.
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        let _ = query;
    }

    /// See [`BackendDevice::polling_handle`].
    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::None
    }

    /// See [`BackendDevice::poll_driver`].
    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// Whether a filter forwards a capability, known at compile time.
struct Forwards<F>(F);

impl<F: Filter> Forwards<F> {
    const READ: bool = Capability::READ.is_in(F::FORWARDS);
    const READ_NOW: bool = Capability::READ_NOW.is_in(F::FORWARDS);
    const WRITE: bool = Capability::WRITE.is_in(F::FORWARDS);
    const EXCHANGE: bool = Capability::EXCHANGE.is_in(F::FORWARDS);
    const READ_NEXT: bool = Capability::READ_NEXT.is_in(F::FORWARDS);
    const WRITE_NEXT: bool = Capability::WRITE_NEXT.is_in(F::FORWARDS);
}

/// Offers the extensions that a filter forwards or has.
fn extensions<'d, F: Filter>(filter: &'d F, query: &mut ExtensionQuery<'d>) {
    let asked = query.capability();
    if asked.is_in(F::FORWARDS) {
        filter.lower().extensions(query);
    } else if !asked.needs_lower() || filter.lower().has(asked) {
        Filter::extensions(filter, query);
    }
}

impl<F: Filter> BackendDevice for F {
    fn info(&self) -> DeviceInfo {
        let lower = self.lower().info();
        Filter::info(self, lower).and(lower)
    }

    #[inline]
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        if Forwards::<F>::READ {
            self.lower().send_io(position, view)
        } else {
            Filter::read(self, position, view)
        }
    }

    #[inline]
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        if Forwards::<F>::WRITE {
            self.lower().send_io(position, view);
        } else {
            Filter::write(self, position, view);
        }
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        if Forwards::<F>::EXCHANGE {
            self.lower().send_io(position, view);
        } else {
            Filter::exchange(self, position, view);
        }
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        if Forwards::<F>::READ { self.lower().send_batch(batch) } else { Filter::read_batch(self, batch) }
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        if Forwards::<F>::WRITE { self.lower().send_batch(batch) } else { Filter::write_batch(self, batch) }
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        if Forwards::<F>::READ_NEXT {
            self.lower().send_io(NoPos, view)
        } else {
            Filter::read_next(self, view)
        }
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        if Forwards::<F>::WRITE_NEXT {
            self.lower().send_io(NoPos, view)
        } else {
            Filter::write_next(self, view)
        }
    }

    #[inline(always)]
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        // Short, since each read at once asks for the extension.
        if !(Forwards::<F>::READ_NOW && query.is_for::<dyn ReadNow>()) {
            extensions(self, query);
        } else if let Some(extension) = self.lower().extension::<dyn ReadNow>() {
            query.offer(extension);
        }
    }

    fn polling_handle(&self) -> PollingHandle {
        Filter::polling_handle(self)
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        Filter::poll_driver(self, cx)
    }
}
