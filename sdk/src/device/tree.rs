//! Devices that have no bytes: trees of names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Device, DeviceInfo, Entry, Listing, Opening, Provenance, Records, Statistics};
use crate::{BoundPacketView, Code, Error, Write};

/// A tree of names: what it can do is list them and open what has one.
///
/// ```
/// use pactio_sdk::*;
///
/// /// A folder with one file.
/// struct Hello;
/// struct Text(&'static [u8]);
///
/// impl Device for Text {
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
///             _ => entries.error(Error::from_code(Code::NotFound)),
///         }
///     }
/// }
///
/// impl Opening for Hello {
///     fn open(&self, name: &str, _: OpenMode) -> Result<Opened, OpenError> {
///         match name {
///             "hello" => Ok(Opened::new(Text(b"hello"))),
///             _ => Err(OpenError::new(Error::from_code(Code::NotFound), "there is only 'hello'")),
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

impl<T: Tree> Device for TreeDevice<T> {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only().write_only()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        view.error(Error::from_code(Code::IsDirectory));
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

/// The last list of a tree that cannot be had again cheaply, or not the same: who goes on gets the rest of what was there when it
/// began, unless somebody else has begun meanwhile. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct LastList(Arc<Mutex<Option<Kept>>>);

/// A folder, and what is in it.
type Kept = (String, Arc<Vec<Entry>>);

impl LastList {
    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was kept of a folder, for a call that goes on at `from`.
    pub fn take(&self, folder: &str, from: u64) -> Option<Arc<Vec<Entry>>> {
        let (kept, all) = self.lock().take()?;
        (from > 0 && kept == folder).then_some(all)
    }

    /// Answers with what fits from `from` on, and keeps the list for who goes on.
    pub fn answer(&self, folder: String, from: u64, all: Arc<Vec<Entry>>, entries: Records<Entry>) {
        // First, since who goes on may be there before the answer is through.
        *self.lock() = Some((folder, all.clone()));
        entries.complete_from(from, all.iter().cloned());
    }

    /// Both, for a list that is made at once.
    pub fn answer_with(
        &self,
        folder: String,
        from: u64,
        entries: Records<Entry>,
        list: impl FnOnce(&str) -> Result<Vec<Entry>, Error>,
    ) {
        match self.take(&folder, from).map_or_else(|| list(&folder).map(Arc::new), Ok) {
            Ok(all) => self.answer(folder, from, all, entries),
            Err(error) => entries.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PacketBox, read_records};

    #[test]
    fn who_goes_on_gets_the_rest_of_what_was_there_when_it_began() {
        let entry = |index: u32| Entry { name: format!("{index:03}"), is_folder: false, size: None };
        let (last, mut lists) = (LastList::default(), 0);
        let (mut from, mut got) = (0, Vec::new());
        loop {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            let entries = Records::new(packet.bind().unwrap());
            last.answer_with("folder".to_owned(), from, entries, |_| {
                lists += 1;
                // It is another one each time.
                Ok((lists * 100..lists * 100 + 20).map(entry).collect())
            });
            let done = packet.error_clamp();
            let bytes = &packet.simple_contiguous_slice().unwrap()[..done];
            let (part, next) = read_records::<Entry>(bytes).unwrap();
            got.extend(part);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!((lists, got.len(), got[19].name.as_str()), (1, 20, "119"));
        assert!(last.take("other", 5).is_none());
    }
}
