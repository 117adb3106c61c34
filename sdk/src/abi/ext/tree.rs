//! Devices that have no bytes: trees of names.

use super::{Describe, ExtensionQuery, Kind, Listing, Opening, Records, Stat};
use crate::{BackendDevice, BoundPacketView, Code, DeviceInfo, IoError, Write};

/// A tree of names, which can be listed and opened.
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
///     fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
///         match folder {
///             b"" => entries.complete_from(from, [Entry::file("hello", Some(5))]),
///             _ => entries.error(IoError::from_code(Code::NOT_FOUND)),
///         }
///     }
/// }
///
/// impl Opening for Hello {
///     fn open(&self, name: &[u8], _: OpenMode) -> Result<Opened, OpenError> {
///         match name {
///             b"hello" => Ok(Opened::new(Text(b"hello"))),
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
    /// The metadata of the tree itself.
    fn stat(&self) -> Stat {
        Stat::of(Kind::FOLDER)
    }

    /// Offers the other extensions of the tree: [`Provenance`](crate::Provenance), [`Statistics`](crate::Statistics).
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        let _ = query;
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

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self).offer::<dyn Listing>(&self.0).offer::<dyn Opening>(&self.0);
        self.0.extensions(query);
    }
}

impl<T: Tree> Describe for TreeDevice<T> {
    fn stat(&self, answer: Records<Stat>) {
        answer.complete_one(Ok::<_, IoError>(self.0.stat()));
    }
}
