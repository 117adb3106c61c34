//! Devices that have no bytes: trees of names.

use super::{BackendDevice, DeviceInfo, Listing, Opening, Provenance, Statistics};
use crate::{BoundPacketView, Code, IoError, Write};

/// A tree of names: what it can do is list them and open what has one.
///
/// ```
/// use pactio_sdk::*;
///
/// /// A folder with one file.
/// struct Hello;
/// struct Text(&'static [u8]);
///
/// impl BackendDevice for Text {
///     fn info(&self) -> DeviceInfo {
///         DeviceInfo::with_size(self.0.len() as u64).read_only()
///     }
///     fn read(&self, position: u64, view: BoundPacketView<Write>) {
///         let rest = usize::try_from(position).ok().and_then(|start| self.0.get(start..));
///         view.transfer_data(rest.unwrap_or_default()).complete();
///     }
/// }
///
/// impl Listing for Hello {
///     fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
///         match folder {
///             "" => entries.complete_from(from, [Entry { name: "hello".into(), is_folder: false, size: Some(5) }]),
///             _ => entries.error(IoError::from_code(Code::NOT_FOUND)),
///         }
///     }
/// }
///
/// impl Opening for Hello {
///     fn open(&self, name: &str, _: OpenMode) -> Result<Opened, OpenError> {
///         match name {
///             "hello" => Ok(Opened::new(Text(b"hello"))),
///             _ => Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), "there is only 'hello'")),
///         }
///     }
/// }
///
/// impl Tree for Hello {}
/// let opened = Opened::new(TreeDevice(Hello)); // what a backend gives
/// # drop(opened);
/// ```
pub trait Tree: Listing + Opening + 'static {
    /// Where names come from, if it is made of other trees.
    fn provenance(&self) -> Option<&dyn Provenance> {
        None
    }

    /// What it counts.
    fn statistics(&self) -> Option<&dyn Statistics> {
        None
    }
}

/// The device of a [`Tree`]. Reading it fails: it is a folder.
#[derive(Debug)]
pub struct TreeDevice<T>(pub T);

impl<T: Tree> BackendDevice for TreeDevice<T> {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only().write_only()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        view.error(IoError::from_code(Code::IS_DIRECTORY));
    }

    fn listing(&self) -> Option<&dyn Listing> {
        Some(&self.0)
    }

    fn opening(&self) -> Option<&dyn Opening> {
        Some(&self.0)
    }

    fn provenance(&self) -> Option<&dyn Provenance> {
        self.0.provenance()
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        self.0.statistics()
    }
}
