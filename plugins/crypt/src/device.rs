//! An encrypted device.

use std::sync::Arc;

use pactio_blocks::Reader;
use pactio_sdk::{
    BoundPacketView, Capability, Describe, ExtensionQuery, Filter, Limiting, Limits, Lower, Read, Records,
    Stat, Write,
};

use crate::cipher::Cipher;
use crate::exclusion::Exclusion;
use crate::write;

/// See the [crate](crate).
pub(crate) struct CryptDevice(Arc<Encrypted>);

/// State that requests in flight share with the device. Requests keep only a weak reference to it. The device below, which keeps
/// the requests, is therefore closed with this device, even if it still owes answers.
pub(crate) struct Encrypted {
    pub(crate) reader: Reader<Cipher>,
    pub(crate) exclusion: Arc<Exclusion>,
}

impl CryptDevice {
    pub(crate) fn new(lower: Lower, cipher: Cipher) -> Self {
        let reader = Reader::new(lower, Arc::new(cipher));
        Self(Arc::new(Encrypted { reader, exclusion: Arc::default() }))
    }
}

impl Drop for CryptDevice {
    fn drop(&mut self) {
        self.0.exclusion.close();
    }
}

impl Filter for CryptDevice {
    /// Regions are not forwarded: a hole does not decrypt to zeros.
    const FORWARDS: &'static [Capability] =
        &[Capability::CANCELLATION, Capability::FLUSH, Capability::PUBLISH];

    fn lower(&self) -> &Lower {
        self.0.reader.lower()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.reader.read(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        write::write(&self.0, position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self).offer::<dyn Limiting>(self);
    }
}

impl Describe for CryptDevice {
    fn stat(&self, answer: Records<Stat>) {
        self.lower().stat_with(answer, |mut stat| {
            // The version tag of the encrypted bytes does not hold for the decrypted ones.
            (stat.version, stat.content_type) = (None, None);
            stat
        });
    }
}

impl Limiting for CryptDevice {
    /// Accepts requests of any length and position. The number in flight is that of the device below.
    fn limits(&self) -> Limits {
        match self.lower().limits().in_flight() {
            Some(count) => Limits::NONE.with_in_flight(count),
            None => Limits::NONE,
        }
    }
}
