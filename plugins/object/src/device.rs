//! An object that is read.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use pactio_sdk::{BoundPacketView, Cancellation, Device, DeviceInfo, Limits, OpenError, RequestId, Write};

use crate::failure::cannot_open;
use crate::fetch::{Fetches, IN_FLIGHT};
use crate::runtime::runtime;
use crate::store::{Store, path};

/// An open object, always in the version that it had when it was opened.
pub(crate) struct ObjectDevice {
    size: u64,
    fetches: Arc<Fetches>,
}

impl ObjectDevice {
    pub(crate) fn open(store: Store, key: &str) -> Result<Self, OpenError> {
        let (runtime, path) = (runtime()?, path(key)?);
        let meta = runtime.block_on(store.objects.head(&path)).map_err(|error| cannot_open(&error))?;
        let fetches = Fetches::new(runtime.handle().clone(), store, meta.clone());
        Ok(Self { size: meta.size, fetches })
    }
}

impl Device for ObjectDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.size).read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.fetches.read(position, view);
    }

    fn limits(&self) -> Limits {
        Limits::NONE.with_in_flight(IN_FLIGHT as u32)
    }

    fn cancellation(&self) -> Option<&dyn Cancellation> {
        Some(self)
    }
}

impl Cancellation for ObjectDevice {
    fn cancel(&self, request: RequestId) {
        self.fetches.cancel(request);
    }
}

impl Drop for ObjectDevice {
    fn drop(&mut self) {
        self.fetches.close();
    }
}
