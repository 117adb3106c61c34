//! A file of an archive that is not compressed: ranges of the device below, handed on without a copy.

use std::sync::Arc;

use pactio_sdk::{
    Admission, BackendDevice, BoundPacketView, Cancellation, Capability, Describe, DeviceInfo,
    ExtensionQuery, IoError, Limiting, Lower, PacketIo, ReboundPacket, Records, RequestId, Stat, Write,
};

use crate::checked::Checked;
use crate::storage::Storage;

/// An open stored file.
pub(crate) struct StoredDevice {
    /// The stretches, in the order of the file.
    parts: Vec<Stretch>,
    size: u64,
    /// The file's record from the archive's directory.
    stat: Stat,
    /// Compares the bytes with the file's check sum, if the archive has one.
    checked: Option<Arc<Checked>>,
}

/// Bytes of a device.
pub(crate) struct Stretch {
    pub(crate) storage: Arc<Storage>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl StoredDevice {
    pub(crate) fn new(parts: Vec<Stretch>, stat: Stat, crc: Option<u32>) -> Self {
        let size = parts.iter().map(|part| part.len).sum();
        let checked = crc.filter(|_| size > 0).map(|crc| Arc::new(Checked::new(size, crc)));
        Self { parts, size, stat, checked }
    }

    /// Reads a range of one stretch, which begins at `at` in the stretch and at `position` in the file. If necessary, the
    /// bytes are checked before the view is answered.
    fn read_part(&self, part: &Stretch, at: u64, position: u64, view: BoundPacketView<Write>) {
        let Stretch { storage, offset, .. } = part;
        if self.checked.is_none() && !storage.changes() {
            return storage.lower.send_io(offset + at, view);
        }
        // The device below keeps this callback, and the storage keeps the device: a strong reference would be a cycle.
        let (of, checked) = (Arc::downgrade(storage), self.checked.clone());
        let fresh = ReboundPacket::new(view).and_then(|rebound| {
            rebound.bind_each(move |part| {
                // If the file was closed, the part fails because it is dropped.
                let Some(of) = of.upgrade() else { return };
                let checked = checked.clone();
                of.check(move |same| match (same, checked) {
                    (Err(changed), _) => part.fail(&changed),
                    (Ok(()), Some(checked)) => checked.answer(position, part),
                    (Ok(()), None) => part.complete(),
                });
            })
        });
        // If memory cannot be allocated, the view has failed already.
        if let Ok(fresh) = fresh {
            storage.lower.send_io(offset + at, fresh);
        }
    }
}

impl BackendDevice for StoredDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.size).read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        if let Some(corrupt) = self.checked.as_ref().and_then(|checked| checked.corrupt()) {
            return view.fail(&corrupt);
        }
        // `at` is relative to the current stretch, `position` to the file.
        let (mut at, mut position, mut rest) = (position, position, view);
        for part in &self.parts {
            if at >= part.len {
                at -= part.len;
                continue;
            }
            let room = part.len - at;
            if rest.len() as u64 <= room {
                return self.read_part(part, at, position, rest);
            }
            let (view, behind) = rest.split_at(room as usize);
            self.read_part(part, at, position, view);
            (at, position, rest) = (0, position + room, behind);
        }
        rest.error(IoError::END);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self);
        // A view keeps the identity of its request on the devices below, which can therefore cancel it.
        if self.parts.iter().any(|part| part.storage.lower.has(Capability::CANCELLATION)) {
            query.offer::<dyn Cancellation>(self);
        }
        // All requests go to one device, so the limits of that device apply.
        if let [only] = self.parts.as_slice() {
            if let Some(admission) = only.storage.lower.extension::<dyn Admission>() {
                query.offer::<dyn Admission>(admission);
            }
            if let Some(limiting) = only.storage.lower.extension::<dyn Limiting>() {
                query.offer::<dyn Limiting>(limiting);
            }
        }
    }
}

impl Describe for StoredDevice {
    fn stat(&self, answer: Records<Stat>) {
        match self.parts.first() {
            Some(part) => answer_with_identity(&part.storage.lower, answer, self.stat.clone()),
            None => answer.complete_one(Ok::<_, IoError>(self.stat.clone())),
        }
    }
}

impl Cancellation for StoredDevice {
    fn cancel(&self, request: RequestId) {
        self.parts.iter().for_each(|part| part.storage.lower.cancel(request));
    }
}

/// Answers with the record from the archive's directory, and with the identity of the storage that holds the archive.
pub(crate) fn answer_with_identity(below: &Lower, answer: Records<Stat>, file: Stat) {
    below.stat_with(answer, |below| {
        let mut file = file;
        (file.identity, file.modified) = (below.identity, below.modified);
        file
    });
}
