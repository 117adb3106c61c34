//! A device that combines another one with the writes to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactio_sdk::{
    BackendDevice, BoundPacketView, Capability, Code, Describe, DeviceInfo, ExtensionQuery, IoError, Lower,
    PacketIo, Read, Records, Stat, Write,
};

use crate::overlay::Overlay;

/// See the [crate](crate).
pub(crate) struct CowDevice {
    below: Lower,
    overlay: Mutex<Overlay>,
}

impl CowDevice {
    pub(crate) fn new(below: Lower, overlay: Overlay) -> Self {
        Self { below, overlay: Mutex::new(overlay) }
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackendDevice for CowDevice {
    fn info(&self) -> DeviceInfo {
        match self.below.info().size() {
            Some(size) => DeviceInfo::with_size(size),
            None => DeviceInfo::endless(),
        }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let Some(end) = position.checked_add(view.len() as u64) else {
            return view.error(IoError::TOO_LARGE);
        };
        let range = position..end;
        let pieces = self.overlay().pieces(&range);
        let mut rest = view;
        let mut at = position;
        for (range, piece) in pieces {
            let (before, behind) = if range.start > at {
                let (before, behind) = rest.split_at((range.start - at) as usize);
                (Some(before), behind)
            } else {
                (None, rest)
            };
            if let Some(before) = before {
                self.below.send_io(at, before);
            }
            let bytes = piece.bytes(&range);
            at = range.end;
            if behind.len() == bytes.len() {
                return behind.transfer_data(bytes).complete();
            }
            let (written, behind) = behind.split_at(bytes.len());
            written.transfer_data(bytes).complete();
            rest = behind;
        }
        self.below.send_io(at, rest);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let room = self.below.info().size().unwrap_or(u64::MAX).saturating_sub(position);
        if room == 0 {
            return view.error(IoError::END);
        }
        let len = view.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut bytes = vec![0; len];
        let transferred = view.transfer_data(&mut bytes);
        let bytes: Arc<[u8]> = bytes[..transferred.moved()].into();
        if self.overlay().write(position, bytes) {
            transferred.complete();
        } else {
            transferred.error(IoError::from_code(Code::NO_SPACE));
        }
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        match query.capability() {
            // Views that are sent on keep the identity of their request, so the device below can offer both.
            Capability::CANCELLATION | Capability::ADMISSION => self.below.extensions(query),
            _ => {
                query.offer::<dyn Describe>(self);
            }
        }
    }
}

impl Describe for CowDevice {
    /// The record of the storage below, without the fields that do not hold for the written bytes.
    fn stat(&self, answer: Records<Stat>) {
        self.below.stat_with(answer, |mut stat| {
            stat.version = None;
            stat.mode = None;
            stat
        });
    }
}
