//! An encrypted device.

use std::sync::Arc;

use pactio_plugin_blocks::Reader;
use pactio_sdk::{
    BoundPacketView, Capability, Describe, ExtensionQuery, Filter, Limiting, Limits, Lower, Read, Records,
    Stat, Write,
};

use crate::cipher::Cipher;
use crate::exclusion::Exclusion;
use crate::write;

/// See the [crate](crate).
pub(crate) struct CryptDevice(Arc<Encrypted>);

/// What requests in flight share with the device. They keep only a weak reference: the device below, which keeps them, is closed with the
/// device, whatever it owes.
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
    /// No regions: what a hole decrypts to is not zero.
    const FORWARDS: &'static [Capability] = &[Capability::CANCELLATION, Capability::FLUSH];

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
            // The tag of the encrypted bytes is no tag of these.
            (stat.version, stat.content_type) = (None, None);
            stat
        });
    }
}

impl Limiting for CryptDevice {
    /// Requests of any length and position are taken; as many at once as are good for the device below.
    fn limits(&self) -> Limits {
        match self.lower().limits().in_flight() {
            Some(count) => Limits::NONE.with_in_flight(count),
            None => Limits::NONE,
        }
    }
}
