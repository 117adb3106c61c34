//! An object that is read.

use std::sync::Arc;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectMeta, ObjectStore};
use pactio_sdk::{
    BackendDevice, BoundPacketView, Cancellation, Describe, DeviceInfo, ExtensionQuery, IoError, Kind,
    Limiting, Limits, OpenError, Records, RequestId, Stat, Write,
};

use crate::failure::cannot_open;
use crate::fetch::{Fetches, IN_FLIGHT, has_date, has_no_version};
use crate::retries::opening;
use crate::runtime::runtime;
use crate::store::{Store, path};
use crate::sums::{Sum, noting};
use crate::web::UNKNOWN_SIZE;

/// An open object, always in the version that it had when it was opened.
pub(crate) struct ObjectDevice {
    stat: Stat,
    size: u64,
    fetches: Arc<Fetches>,
}

impl ObjectDevice {
    pub(crate) fn open(store: &Store, key: &str) -> Result<Self, OpenError> {
        let (runtime, path) = (runtime()?, path(key)?);
        let ((meta, attributes), sum) =
            runtime.block_on(opening(look(store, &path))).map_err(|error| cannot_open(&error))?;
        if has_no_version(&meta) && !store.unversioned {
            let text = "the server gives neither a tag nor a date of it, so a replacement during a read could not be detected; \
                        unversioned=true reads it all the same";
            return Err(OpenError::new(IoError::UNSUPPORTED, text));
        }
        let mut stat = stat(&meta, &attributes);
        stat.identity = store.identity(&path);
        let size = meta.size;
        let fetches = Fetches::new(runtime.handle().clone(), store.clone(), meta, sum);
        Ok(Self { stat, size, fetches })
    }
}

/// An object's metadata and attributes.
type Found = (ObjectMeta, Attributes);

/// Asks the store for the metadata and the attributes of an object, and for the check sum of its bytes.
async fn look(store: &Store, path: &Path) -> object_store::Result<(Found, Option<Sum>)> {
    let version = store.version.clone();
    let options = GetOptions { head: true, version: version.clone(), ..GetOptions::default() };
    let (found, sum) = noting(store.objects.get_opts(path, options)).await;
    let found = found?;
    if found.meta.size > 0 {
        return Ok(((found.meta, found.attributes), sum));
    }
    // Some servers report the size 0 for an object that they generate when it is read.
    let read = store.objects.get_opts(path, GetOptions { version, ..GetOptions::default() }).await?;
    // The answer need not say the size either.
    let found = if read.meta.size == UNKNOWN_SIZE { found } else { read };
    Ok(((found.meta, found.attributes), None))
}

/// The record of an object, without its identity.
pub(crate) fn stat(meta: &ObjectMeta, attributes: &Attributes) -> Stat {
    let mut stat = Stat::of(Kind::FILE).with_size(meta.size);
    stat.modified = has_date(meta).then(|| SystemTime::from(meta.last_modified));
    stat.version = meta.e_tag.clone().or_else(|| meta.version.clone());
    for (attribute, value) in attributes {
        match attribute {
            Attribute::ContentType => stat.content_type = Some(value.to_string()),
            Attribute::Metadata(key) => stat.metadata.push((key.to_string(), value.to_string())),
            _ => {}
        }
    }
    stat.metadata.sort_unstable();
    stat
}

impl BackendDevice for ObjectDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.size).read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.fetches.read(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Limiting>(self).offer::<dyn Cancellation>(self).offer::<dyn Describe>(self);
    }
}

impl Limiting for ObjectDevice {
    fn limits(&self) -> Limits {
        Limits::NONE.with_in_flight(IN_FLIGHT as u32)
    }
}

impl Describe for ObjectDevice {
    fn stat(&self, answer: Records<Stat>) {
        answer.complete_one(Ok::<_, IoError>(self.stat.clone()));
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
