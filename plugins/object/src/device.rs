//! An object that is read.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use pactio_sdk::{
    BackendDevice, BoundPacketView, Cancellation, DeviceInfo, IoError, Limits, OpenError, RequestId, Write,
};

use crate::failure::cannot_open;
use crate::fetch::{Fetches, IN_FLIGHT, has_no_version};
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
        let meta = runtime.block_on(look(&store, &path)).map_err(|error| cannot_open(&error))?;
        if has_no_version(&meta) && !store.unversioned {
            let text = "the server says neither a tag nor a date of it, so nobody could tell if it were replaced while it is read; \
                        unversioned=true reads it all the same";
            return Err(OpenError::new(IoError::UNSUPPORTED, text));
        }
        let fetches = Fetches::new(runtime.handle().clone(), store, meta.clone());
        Ok(Self { size: meta.size, fetches })
    }
}

/// What the store says of an object.
async fn look(store: &Store, path: &Path) -> object_store::Result<ObjectMeta> {
    let meta = store.objects.head(path).await?;
    if meta.size > 0 {
        return Ok(meta);
    }
    // Some servers say so of what they would have to make first.
    Ok(store.objects.get(path).await?.meta)
}

impl BackendDevice for ObjectDevice {
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
