//! A file of an archive that is not compressed: ranges of the device below, handed on without a copy.

use pactio_sdk::{
    Admission, BackendDevice, BoundPacketView, Cancellation, Capability, Describe, DeviceInfo,
    ExtensionQuery, IoError, Limiting, Lower, PacketIo, Records, RequestId, Stat, Write,
};

/// An open stored file.
pub(crate) struct StoredDevice {
    /// The stretches, in the order of the file.
    parts: Vec<Stretch>,
    size: u64,
    /// The file's record from the archive's directory.
    stat: Stat,
}

/// Bytes of a device.
pub(crate) struct Stretch {
    pub(crate) below: Lower,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl StoredDevice {
    pub(crate) fn new(parts: Vec<Stretch>, stat: Stat) -> Self {
        let size = parts.iter().map(|part| part.len).sum();
        Self { parts, size, stat }
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

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self);
        // A view keeps its request on each device that it is sent to.
        if self.parts.iter().any(|part| part.below.has(Capability::CANCELLATION)) {
            query.offer::<dyn Cancellation>(self);
        }
        // All requests go to one device, so its limits are this one's.
        if let [only] = self.parts.as_slice() {
            if let Some(admission) = only.below.extension::<dyn Admission>() {
                query.offer::<dyn Admission>(admission);
            }
            if let Some(limiting) = only.below.extension::<dyn Limiting>() {
                query.offer::<dyn Limiting>(limiting);
            }
        }
    }
}

impl Describe for StoredDevice {
    fn stat(&self, answer: Records<Stat>) {
        match self.parts.first() {
            Some(part) => describe(&part.below, answer, self.stat.clone()),
            None => answer.complete_one(Ok::<_, IoError>(self.stat.clone())),
        }
    }
}

impl Cancellation for StoredDevice {
    fn cancel(&self, request: RequestId) {
        self.parts.iter().for_each(|part| part.below.cancel(request));
    }
}

/// Answers with the record from the archive's directory, and with the identity of the storage that holds the archive.
pub(crate) fn describe(below: &Lower, answer: Records<Stat>, file: Stat) {
    below.stat_with(answer, |below| {
        let mut file = file;
        (file.identity, file.modified) = (below.identity, below.modified);
        file
    });
}
