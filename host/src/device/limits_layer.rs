//! A layer over a device, for filters and for users of a device with limits. The layer takes any request, and sends the device
//! requests that keep the device's limits.

use std::task::{Context, Poll};

use pactio_sdk::abi::{DeviceObj, host_device};
use pactio_sdk::ext::{Operation, Relay};
use pactio_sdk::io::PacketIo;
use pactio_sdk::{
    Admission, AlignedBytes, BackendDevice, Batch, BoundPacketView, Cancellation, Capability, Code, Counted,
    Counts, DerivedPacket, DeviceInfo, ExtensionQuery, IoError, Limiting, Limits, NoPos, OpenError, OpenMode,
    Opened, Opening, PacketPerms, Read, ReadWrite, RequestId, Write,
};

use super::Device;
use crate::executor::mark_thread_of_plugin;

/// Hands requests on as a user of the device would send them, so that the device's driver is polled.
struct LimitsLayer {
    device: Device,
    limits: Limits,
}

impl Device {
    /// The device as an object for a plugin or a handle: it takes requests of all sizes.
    pub(crate) fn lend(&self) -> Result<DeviceObj, IoError> {
        host_device(LimitsLayer::new(self))
    }
}

impl Device {
    /// The same object, which also counts the requests that go through it.
    pub(super) fn lend_counted(&self) -> Result<(DeviceObj, Counts), IoError> {
        let counted = Counted::new(LimitsLayer::new(self));
        let counts = counted.counts();
        Ok((host_device(counted)?, counts))
    }
}

impl LimitsLayer {
    fn new(device: &Device) -> Self {
        Self { device: device.clone(), limits: device.0.remote.limits() }
    }

    /// Sends a view in parts that the device takes. The parts begin and end at multiples of the device's unit; `after` gives the
    /// position of the next part.
    fn send_in_parts<Perms: PacketPerms, P: Copy>(
        &self,
        mut at: P,
        mut view: BoundPacketView<Perms>,
        after: impl Fn(P, u64) -> Option<P>,
    ) where
        Device: PacketIo<Perms, P>,
    {
        let unit = u64::from(self.limits.alignment());
        let largest = self.limits.largest().map_or(u64::MAX, |largest| largest - largest % unit);
        while view.len() as u64 > largest {
            let (part, rest) = view.split_at(largest as usize);
            self.device.send_io(at, part);
            let Some(next) = after(at, largest) else { return rest.error(IoError::END) };
            (at, view) = (next, rest);
        }
        self.device.send_io(at, view);
    }

    /// Sends a view of a stream in parts; the next part begins where the last one ended.
    fn send_next_in_parts<Perms: PacketPerms>(&self, view: BoundPacketView<Perms>)
    where
        Device: PacketIo<Perms, NoPos>,
    {
        self.send_in_parts(NoPos, view, |_, _| Some(NoPos));
    }

    fn is_aligned(&self, position: u64, len: usize) -> bool {
        let unit = u64::from(self.limits.alignment()) - 1;
        (position | len as u64) & unit == 0
    }

    /// Reads the units that a request lies in, and answers the request with its part.
    fn read_around(&self, position: u64, view: BoundPacketView<Write>) {
        let unit = u64::from(self.limits.alignment());
        let start = position - position % unit;
        let skip = (position - start) as usize;
        let len = skip.checked_add(view.len()).and_then(|len| len.checked_next_multiple_of(unit as usize));
        // The end of the last unit must not exceed the end of all positions, 2^64.
        let Some(len) = len.filter(|&len| len == 0 || start.checked_add(len as u64 - 1).is_some()) else {
            return view.error(IoError::END);
        };
        let align = self.limits.memory_alignment() as usize;
        let memory = match AlignedBytes::zeroed(len, align.max(64)) {
            Ok(memory) => memory,
            Err(error) => return view.error(error),
        };
        // If there is no memory for the packet, `new` has failed the view.
        let Ok(mut around) = DerivedPacket::<_, Write, Write>::new(view, memory) else { return };
        let Ok(whole) = around.bind() else { return };
        around.on_complete(move |around| {
            if let Ok((view, memory, report)) = around.into_parts() {
                report.answer(&memory, skip, view);
            }
        });
        self.send_in_parts(start, whole, u64::checked_add);
    }
}

impl BackendDevice for LimitsLayer {
    fn info(&self) -> DeviceInfo {
        self.device.info()
    }

    #[inline]
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        mark_thread_of_plugin();
        if self.limits.takes(position, view.len() as u64) {
            self.device.send_io(position, view);
        } else if self.is_aligned(position, view.len()) {
            self.send_in_parts(position, view, u64::checked_add);
        } else {
            self.read_around(position, view);
        }
    }

    #[inline]
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        mark_thread_of_plugin();
        if self.is_aligned(position, view.len()) {
            self.send_in_parts(position, view, u64::checked_add);
        } else {
            // Reading the rest of the units and writing it back could undo concurrent writes there.
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        mark_thread_of_plugin();
        if self.is_aligned(position, view.len()) {
            self.send_in_parts(position, view, u64::checked_add);
        } else {
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        mark_thread_of_plugin();
        if self.limits.takes_all() {
            self.device.send_batch(batch);
        } else {
            batch.for_each(|(position, view)| self.read(position, view));
        }
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        mark_thread_of_plugin();
        if self.limits.takes_all() {
            self.device.send_batch(batch);
        } else {
            batch.for_each(|(position, view)| self.write(position, view));
        }
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        mark_thread_of_plugin();
        self.send_next_in_parts(view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        mark_thread_of_plugin();
        if self.is_aligned(0, view.len()) {
            self.send_next_in_parts(view);
        } else {
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }

    /// All extensions of the device, except for the registration of memory, which only the host does.
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        let remote = &self.device.0.remote;
        match query.capability() {
            Capability::CANCELLATION if remote.has(Capability::CANCELLATION) => {
                query.offer::<dyn Cancellation>(self)
            }
            Capability::ADMISSION if remote.has(Capability::ADMISSION) => query.offer::<dyn Admission>(self),
            Capability::LIMITS => query.offer::<dyn Limiting>(self),
            Capability::OPEN if self.device.tree().has(Capability::OPEN) => query.offer::<dyn Opening>(self),
            Capability::CANCELLATION | Capability::ADMISSION | Capability::OPEN | Capability::MEMORY => query,
            other if remote.has(other) => {
                query.offer_relay(self);
                query
            }
            _ => query,
        };
    }
}

impl Limiting for LimitsLayer {
    fn limits(&self) -> Limits {
        self.limits.without_bounds()
    }
}

impl Opening for LimitsLayer {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        mark_thread_of_plugin();
        let device = self.device.open_in(name, mode)?;
        Ok(Opened::object(device.lend()?))
    }
}

impl Relay for LimitsLayer {
    fn relay<E: Operation + ?Sized>(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        mark_thread_of_plugin();
        self.device.operate::<E>(number, text, view);
    }
}

impl Cancellation for LimitsLayer {
    fn cancel(&self, request: RequestId) {
        mark_thread_of_plugin();
        self.device.0.cancel(request);
    }
}

impl Admission for LimitsLayer {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        mark_thread_of_plugin();
        // The users of the filter queue above the filter.
        match &self.device.0.room {
            Some(room) => room.ask_from_above(&self.device.0.remote, bytes, cx),
            None => Poll::Ready(()),
        }
    }
}
