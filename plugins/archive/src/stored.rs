//! A file of an archive that is not compressed: ranges of what is below, handed on without a copy.

use pactio_sdk::{
    Admission, BackendDevice, BoundPacketView, Cancellation, DeviceInfo, IoError, Limits, Lower, PacketIo,
    RequestId, Write,
};

/// An open stored file.
pub(crate) struct StoredDevice {
    /// In order: where each begins in the file, and where that is.
    parts: Vec<Stretch>,
    size: u64,
}

/// Bytes of a device.
pub(crate) struct Stretch {
    pub(crate) below: Lower,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl StoredDevice {
    pub(crate) fn new(parts: Vec<Stretch>) -> Self {
        let size = parts.iter().map(|part| part.len).sum();
        Self { parts, size }
    }

    fn only(&self) -> Option<&Lower> {
        match self.parts.as_slice() {
            [only] => Some(&only.below),
            _ => None,
        }
    }
}

impl BackendDevice for StoredDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.size).read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let (mut at, mut rest) = (position, view);
        for part in &self.parts {
            if at >= part.len {
                at -= part.len;
                continue;
            }
            let room = part.len - at;
            if rest.len() as u64 <= room {
                return part.below.send_io(part.offset + at, rest);
            }
            let (view, behind) = rest.split_at(room as usize);
            part.below.send_io(part.offset + at, view);
            (at, rest) = (0, behind);
        }
        rest.error(IoError::END);
    }

    fn limits(&self) -> Limits {
        self.only().map_or(Limits::NONE, BackendDevice::limits)
    }

    /// Views keep their identity, in whichever part they are.
    fn cancellation(&self) -> Option<&dyn Cancellation> {
        self.parts.iter().any(|part| part.below.cancellation().is_some()).then_some(self)
    }

    fn admission(&self) -> Option<&dyn Admission> {
        self.only()?.admission()
    }
}

impl Cancellation for StoredDevice {
    fn cancel(&self, request: RequestId) {
        for cancellation in self.parts.iter().filter_map(|part| part.below.cancellation()) {
            cancellation.cancel(request);
        }
    }
}
