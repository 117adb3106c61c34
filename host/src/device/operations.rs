//! Operations of a device beyond reading and writing.

use std::fmt;
use std::ops::Range;

use pactio_sdk::ext::{EXTENSIONS, Operation, stat_of_name};
use pactio_sdk::{
    Capability, Cause, Change, Code, CopyFile, CreateFile, CreateFolder, Describe, Entry, Flush, FlushScope,
    IoError, Limits, Listing, Mapping, Metric, Name, Origin, PacketBox, Provenance, Publish, Record,
    Refusals, Refused, Region, Remove, Rename, RenameMode, Resize, SetStat, Stat, Statistics, Watch, Write,
    Zero, ZeroMode, read_records,
};

use super::Device;
use super::current::Entered;
use super::entry::checked;
use crate::executor::Call;
use crate::{Error, ErrorKind};

/// Largest size of one answer, in bytes. A name may be nearly as long.
const ANSWER_BYTES: usize = 1 << 16;

/// A list with more records than this counts as endless.
const MAX_RECORDS: usize = 1 << 24;

/// The capabilities of a device: see [`Device::capabilities`].
///
/// ```no_run
/// # fn main() -> Result<(), pactio::Error> {
/// # let host = pactio::Host::builder().build()?;
/// use pactio::Capability;
///
/// let device = host.open("file:/data/image")?;
/// if device.capabilities().has(Capability::RESIZE) {
///     host.block_on(device.resize(1 << 20))?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    has: Vec<Capability>,
    limits: Limits,
}

impl Capabilities {
    /// Whether the device has this extension.
    pub fn has(&self, capability: Capability) -> bool {
        self.has.contains(&capability)
    }

    /// All extensions that the device has.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.has.iter().copied()
    }

    /// Limits of the requests that the plugin takes. A [`Device`] takes requests of any length, and splits those that exceed a
    /// limit. It refuses writes and exchanges that break an alignment, with [`Code::MISALIGNED`](crate::Code::MISALIGNED).
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

impl Device {
    /// The capabilities of the device. Asks the plugin for each extension once in the device's life.
    pub fn capabilities(&self) -> Capabilities {
        let has = EXTENSIONS.iter().copied().filter(|capability| self.can(*capability)).collect();
        Capabilities { has, limits: self.0.limits }
    }

    /// Limits of the requests that the plugin takes.
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Whether the device has an extension.
    fn can(&self, capability: Capability) -> bool {
        self.serving(capability).is_some()
    }

    /// The device that serves an extension: this one, if it has the extension. A filter that does not forward the flush holds
    /// nothing back itself, so the device below it is flushed.
    pub(super) fn serving(&self, capability: Capability) -> Option<&Self> {
        let layers = std::iter::successors(Some(self), |device| device.below());
        let reached = if capability == Capability::FLUSH { usize::MAX } else { 1 };
        layers.take(reached).find(|device| {
            let _entered = Entered::new(&device.0, Call::Extension);
            device.0.remote.has(capability)
        })
    }

    /// Makes all earlier writes durable, with all metadata. A device that holds nothing back has nothing to do.
    ///
    /// # Errors
    ///
    /// If written bytes may be lost; the error states the reason.
    pub async fn flush(&self) -> Result<(), Error> {
        self.flush_scope(FlushScope::All).await
    }

    /// Makes the bytes of all earlier writes durable, which may be faster than [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn flush_data(&self) -> Result<(), Error> {
        self.flush_scope(FlushScope::Data).await
    }

    /// Makes the written bytes visible to others, on devices that show them only as a whole: objects of a store, and files that
    /// were opened with [`OpenOptions::replace`](crate::OpenOptions::replace). Without this call, closing such a device discards
    /// the bytes, and the previous content stays. Afterwards the device takes no more writes. On other devices there is nothing
    /// to do.
    ///
    /// # Errors
    ///
    /// If the bytes cannot be made visible; the error states the reason, and the previous content stays.
    pub async fn publish(&self) -> Result<(), Error> {
        if !self.can(Capability::PUBLISH) {
            return Ok(());
        }
        self.ask::<dyn Publish>(What("publish the writes to", b""), 0, ONE_BYTE).await.map(drop)
    }

    /// Refuses a filter that takes writes for a device that has to be published, but does not forward the publication.
    pub(crate) fn refuse_hidden_publish(&self, below: &Self) -> Result<(), Error> {
        let is_hidden = below.can(Capability::PUBLISH) && !self.can(Capability::PUBLISH);
        if !is_hidden || !self.info().writable() {
            return Ok(());
        }
        let (url, plugin) = (self.url(), &self.plugin().manifest().id);
        let text = format!(
            "cannot open '{url}': the filter '{plugin}' does not forward '{}', so the bytes that are written through it would never \
             be seen",
            Capability::PUBLISH
        );
        Err(Error::new(ErrorKind::Open(Code::UNSUPPORTED), text))
    }

    /// Flushes the device. A device without the extension holds nothing back: there is nothing to make durable.
    async fn flush_scope(&self, scope: FlushScope) -> Result<(), Error> {
        if !self.can(Capability::FLUSH) {
            return Ok(());
        }
        self.ask::<dyn Flush>(What("flush", b""), scope.to_raw(), ONE_BYTE).await.map(drop)
    }

    /// Makes the device `size` bytes long. New bytes read as zeros.
    ///
    /// # Errors
    ///
    /// If the device does not support it, or the operation failed; the error states the reason.
    pub async fn resize(&self, size: u64) -> Result<(), Error> {
        let what = format!("set a size of {size} bytes on");
        self.ask::<dyn Resize>(What(&what, b""), size, ONE_BYTE).await.map(drop)
    }

    /// Makes the bytes of `range` read as zeros, inside of the device. Devices that cannot do it faster get zeros written.
    ///
    /// ```no_run
    /// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
    /// use pactio::ZeroMode;
    ///
    /// // The storage is given back: a file has a hole there.
    /// device.zero(0..1 << 30, ZeroMode::Release).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the range ends past the end, the device cannot be written, or the operation failed. Each byte of the range is then as
    /// it was, or zero.
    pub async fn zero(&self, range: Range<u64>, mode: ZeroMode) -> Result<(), Error> {
        match self.zero_fast(range.clone(), mode).await {
            Err(error) if error.code() == Some(Code::UNSUPPORTED) => self.write_zeros(range).await,
            done => done,
        }
    }

    /// Makes the bytes of `range` read as zeros, if that is faster than a write of zeros. An empty range changes nothing.
    ///
    /// # Errors
    ///
    /// As [`zero`](Self::zero); with [`Code::UNSUPPORTED`], a write of zeros would be as fast.
    pub async fn zero_fast(&self, range: Range<u64>, mode: ZeroMode) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let what = format!("zero {} bytes at {:#x} of", range.end - range.start, range.start);
        self.ask_with::<dyn Zero>(What(&what, b""), &ZeroMode::raw_range(&range), mode.to_raw())
            .await
            .map(drop)
    }

    /// Writes zeros to a range, for a device without a faster way. The buffer comes back from each write and is used again.
    async fn write_zeros(&self, range: Range<u64>) -> Result<(), Error> {
        // If the size is known, a range that ends past the end fails before any byte is written.
        if self.size().is_some_and(|size| range.end > size) {
            let text = format!("cannot zero up to {:#x} of '{}': {}", range.end, self.url(), IoError::END);
            return Err(Error::new(ErrorKind::Io(Code::END), text).with_cause(IoError::END));
        }
        let (mut at, mut zeros) = (range.start, vec![0; MAX_ZEROS.min(range.end - range.start) as usize]);
        while at < range.end {
            zeros.truncate((range.end - at).min(MAX_ZEROS) as usize);
            let len = zeros.len() as u64;
            zeros = self.write_all_at(at, zeros).await?;
            at += len;
        }
        Ok(())
    }

    /// The metadata of the stored bytes: kind, size, times, identity, version. A device without metadata gives a record with its
    /// size alone.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// let one = host.open("file:/data/image")?;
    /// let other = host.open("file:/data | /image")?;
    /// let (one, other) = (host.block_on(one.stat())?, host.block_on(other.stat())?);
    /// assert_eq!(one.identity, other.identity);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the device's operation failed; the error states the reason.
    pub async fn stat(&self) -> Result<Stat, Error> {
        let mut stat = Stat::default();
        if self.can(Capability::STAT) {
            let what = What("find out what is known of", b"");
            let packet = self.ask::<dyn Describe>(what, 0, ANSWER_BYTES).await?;
            let read = packet.simple_contiguous_slice().and_then(read_records::<Stat>);
            let (mut records, _) =
                read.map_err(|error| self.failure_of::<dyn Describe>(what, &error.into()))?;
            stat = records.pop().unwrap_or_default();
        }
        stat.size = stat.size.or_else(|| self.size());
        Ok(stat)
    }

    /// The names in a folder of a device that is a tree. `folder` is the path: names joined with `/`, empty for the root. Names
    /// are bytes: a [`Name`](crate::Name) shows one as text.
    ///
    /// # Errors
    ///
    /// If the device is no tree, or there is no such folder.
    pub async fn list(&self, folder: impl AsRef<[u8]>) -> Result<Vec<Entry>, Error> {
        let what = What("list", folder.as_ref());
        match self.collect::<dyn Listing, _>(what).await {
            // Many other lists were begun meanwhile, and the device has dropped the rest of this one.
            Err(error) if error.code() == Some(Code::CHANGED) => self.collect::<dyn Listing, _>(what).await,
            listed => listed,
        }
    }

    /// Removes a name in a tree that was opened for writing: a file, or a folder without names in it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// use pactio::OpenOptions;
    ///
    /// let folder = host.open_with("file:/data", OpenOptions::new().read(true).write(true))?;
    /// host.block_on(async {
    ///     folder.create_folder("old").await?;
    ///     folder.rename("image", "old/image", pactio::RenameMode::Keep).await?;
    ///     folder.remove("notes").await
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the tree cannot be changed, there is no such name, or the folder is not empty.
    pub async fn remove(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let name = self.checked_name("remove", name.as_ref())?;
        self.ask::<dyn Remove>(What("remove", name), 0, ONE_BYTE).await.map(drop)
    }

    /// Watches the names of a tree from now on, at any depth. A list that is made afterwards misses no change that is not told.
    ///
    /// ```no_run
    /// # async fn run(folder: &pactio::Device) -> Result<(), pactio::Error> {
    /// let mut changes = folder.watch().await?;
    /// let mut names = folder.list("").await?;
    /// loop {
    ///     for change in changes.next().await? {
    ///         println!("{change}"); // such as: made 'music/new.ogg'
    ///     }
    ///     names = folder.list("").await?;
    /// #   drop(names); return Ok(());
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the device cannot be watched.
    pub async fn watch(&self) -> Result<Changes, Error> {
        let (_, from) = self.changes_behind(0).await?;
        Ok(Changes { device: self.clone(), from })
    }

    /// The changes behind a cursor, and the cursor behind them.
    async fn changes_behind(&self, from: u64) -> Result<(Vec<Change>, u64), Error> {
        let what = What("watch", b"");
        let packet = self.ask::<dyn Watch>(what, from, ANSWER_BYTES).await?;
        let answer = packet.simple_contiguous_slice().and_then(read_records::<Change>);
        match answer {
            // Without a change, a caller would ask for ever.
            Ok((changes, Some(next))) if from == 0 || !changes.is_empty() => Ok((changes, next)),
            Ok(_) => Err(self.failure_of::<dyn Watch>(what, &IoError::from_code(Code::CORRUPT).into())),
            Err(error) => Err(self.failure_of::<dyn Watch>(what, &error.into())),
        }
    }

    /// The names in a folder like [`list`](Self::list), page by page, so that a long list needs little memory of the host and its
    /// first names come early.
    ///
    /// ```no_run
    /// # async fn run(folder: &pactio::Device) -> Result<(), pactio::Error> {
    /// let mut pages = folder.list_pages("maps");
    /// while let Some(entries) = pages.next().await? {
    ///     println!("{} names", entries.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_pages(&self, folder: impl AsRef<[u8]>) -> ListPages<'_> {
        ListPages { device: self, folder: folder.as_ref().to_owned(), from: Some(0) }
    }

    /// Makes an empty file in a tree that was opened for writing, if there is no such name. Of several callers at the same
    /// time, one succeeds. The folder that the file is made in exists.
    ///
    /// ```no_run
    /// # async fn run(folder: &pactio::Device) -> Result<(), pactio::Error> {
    /// use pactio::Code;
    ///
    /// match folder.create_file("lock").await {
    ///     Ok(()) => println!("this caller has the lock"),
    ///     Err(error) if error.code() == Some(Code::ALREADY_EXISTS) => println!("another one has it"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Code::ALREADY_EXISTS`] if there is such a name; if the tree cannot be changed.
    pub async fn create_file(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let name = self.checked_name("make the file", name.as_ref())?;
        self.ask::<dyn CreateFile>(What("make the file", name), 0, ONE_BYTE).await.map(drop)
    }

    /// Makes a folder in a tree that was opened for writing. The folder that it is made in exists.
    ///
    /// # Errors
    ///
    /// If the tree has no folders of their own, as object stores have not, or the name exists.
    pub async fn create_folder(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let name = self.checked_name("make the folder", name.as_ref())?;
        self.ask::<dyn CreateFolder>(What("make the folder", name), 0, ONE_BYTE).await.map(drop)
    }

    /// Renames `from` to `to` within a tree that was opened for writing.
    ///
    /// # Errors
    ///
    /// If the tree cannot be changed, there is no name `from`, or `to` exists and stays.
    pub async fn rename(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        mode: RenameMode,
    ) -> Result<(), Error> {
        self.ask_of_both::<dyn Rename>("rename", from.as_ref(), to.as_ref(), mode).await
    }

    /// Copies the file `from` to the name `to` within a tree that was opened for writing: in a store without moving the bytes
    /// through this machine, in a file system by sharing blocks where it can. `to` has the whole copy or what it was before.
    ///
    /// ```no_run
    /// # async fn run(folder: &pactio::Device) -> Result<(), pactio::Error> {
    /// use pactio::RenameMode;
    ///
    /// folder.copy_file("image", "image.bak", RenameMode::Replace).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the tree cannot be changed, `from` is no file, or `to` exists and stays.
    pub async fn copy_file(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        mode: RenameMode,
    ) -> Result<(), Error> {
        self.ask_of_both::<dyn CopyFile>("copy", from.as_ref(), to.as_ref(), mode).await
    }

    /// Sets the known fields of `stat` for a name in a tree that was opened for writing, and leaves the others as they are. A
    /// folder of `file` has times and permission bits to set, a tree in memory the time of the last change.
    ///
    /// ```no_run
    /// # async fn run(folder: &pactio::Device) -> Result<(), pactio::Error> {
    /// use std::time::{Duration, SystemTime};
    ///
    /// use pactio::Stat;
    ///
    /// let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    /// folder.set_stat("image", &Stat::default().with_modified(yesterday).with_mode(0o644)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Code::UNSUPPORTED`] if a field cannot be set, such as the size, for which there is [`resize`](Self::resize): nothing changes
    /// then. If there is no such name, or it may not be changed.
    pub async fn set_stat(&self, name: impl AsRef<[u8]>, stat: &Stat) -> Result<(), Error> {
        let name = self.checked_name("set metadata of", name.as_ref())?;
        let what = What("set metadata of", name);
        self.ask_with::<dyn SetStat>(what, &stat_of_name(name, stat), 0).await.map(drop)
    }

    /// Asks for an operation that gives the name `to` what `from` has.
    async fn ask_of_both<E: Operation + ?Sized>(
        &self,
        action: &str,
        from: &[u8],
        to: &[u8],
        mode: RenameMode,
    ) -> Result<(), Error> {
        let (from, to) = (self.checked_name(action, from)?, self.checked_name(&format!("{action} to"), to)?);
        let both = [from, &[0], to].concat();
        let what = format!("{action} '{}' to", Name::show(from));
        self.ask_with::<E>(What(&what, to), &both, mode.to_raw()).await.map(drop)
    }

    /// Checks a name and trims it for the plugin. The error says which `action` failed, such as "remove".
    fn checked_name<'n>(&self, action: &str, name: &'n [u8]) -> Result<&'n [u8], Error> {
        checked(name).map_err(|error| {
            let cause = Cause::new(error.error(), error.message());
            let text =
                format!("cannot {action} '{}' in '{}': {}", Name::show(name), self.url(), error.message());
            Error::new(ErrorKind::Io(error.error().code()), text).with_cause(cause)
        })
    }

    /// The sources that have a name in a tree made of other trees, in the order in which they are looked up: the first serves the
    /// name, and hides the rest.
    ///
    /// # Errors
    ///
    /// If the device is no such tree, or no source has the name.
    pub async fn provenance(&self, name: impl AsRef<[u8]>) -> Result<Vec<Origin>, Error> {
        self.collect::<dyn Provenance, _>(What("find", name.as_ref())).await
    }

    /// The entries that a tree hides, such as those of an archive with names that lead out of it, with the reasons. Empty for a
    /// tree that does not report any.
    ///
    /// # Errors
    ///
    /// If the device's operation failed; the error states the reason.
    pub async fn refused(&self) -> Result<Vec<Refused>, Error> {
        if !self.can(Capability::REFUSED) {
            return Ok(Vec::new());
        }
        self.collect::<dyn Refusals, _>(What("find the hidden entries of", b"")).await
    }

    /// The ranges of positions that exist, in order, for a device with holes, such as a file or the memory of a process. A device
    /// that does not report regions gives one region over all of it.
    ///
    /// # Errors
    ///
    /// If the device's operation failed; the error states the reason.
    pub async fn regions(&self) -> Result<Vec<Region>, Error> {
        if self.can(Capability::MAP) {
            return self.collect::<dyn Mapping, _>(What("find the regions of", b"")).await;
        }
        let info = self.info();
        let mut all = Region::new(0..info.size().unwrap_or(u64::MAX));
        (all.readable, all.writable) = (info.readable(), info.writable());
        Ok(vec![all])
    }

    /// The figures that the device counts; empty, if it counts none.
    ///
    /// # Errors
    ///
    /// If the device's operation failed; the error states the reason.
    pub async fn statistics(&self) -> Result<Vec<Metric>, Error> {
        if !self.can(Capability::STATISTICS) {
            return Ok(Vec::new());
        }
        self.collect::<dyn Statistics, _>(What("get the statistics of", b"")).await
    }

    /// Collects all records, with as many answers as needed.
    async fn collect<E: Operation + ?Sized, R: Record>(&self, what: What<'_>) -> Result<Vec<R>, Error> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(cursor) = from {
            let (records, next) = self.page::<E, R>(what, cursor).await?;
            all.extend(records);
            // Otherwise the loop would not end for a device that always announces more records.
            if all.len() > MAX_RECORDS {
                return Err(self.failure_of::<E>(what, &IoError::from_code(Code::CORRUPT).into()));
            }
            from = next;
        }
        Ok(all)
    }

    /// The records of one answer, and the cursor of the next one.
    async fn page<E: Operation + ?Sized, R: Record>(
        &self,
        what: What<'_>,
        from: u64,
    ) -> Result<(Vec<R>, Option<u64>), Error> {
        let packet = self.ask::<E>(what, from, ANSWER_BYTES).await?;
        let answer = packet.simple_contiguous_slice().and_then(read_records::<R>);
        let (records, next) = answer.map_err(|error| self.failure_of::<E>(what, &error.into()))?;
        // Otherwise a caller would ask for ever.
        if next.is_some_and(|next| records.is_empty() || next == from) {
            return Err(self.failure_of::<E>(what, &IoError::from_code(Code::CORRUPT).into()));
        }
        Ok((records, next))
    }

    /// Calls an operation of an extension for a name; gives the answer, of at most `room` bytes. `room` is at least one.
    async fn ask<E: Operation + ?Sized>(
        &self,
        what: What<'_>,
        number: u64,
        room: usize,
    ) -> Result<PacketBox<Write>, Error> {
        self.send_operation::<E>(what, what.1, number, room).await
    }

    /// Calls an operation of an extension with a text; the answer has no bytes.
    async fn ask_with<E: Operation + ?Sized>(
        &self,
        what: What<'_>,
        text: &[u8],
        number: u64,
    ) -> Result<PacketBox<Write>, Error> {
        self.send_operation::<E>(what, text, number, ONE_BYTE).await
    }

    /// Sends an operation to the plugin and waits for its answer, of at most `room` bytes.
    async fn send_operation<E: Operation + ?Sized>(
        &self,
        what: What<'_>,
        text: &[u8],
        number: u64,
        room: usize,
    ) -> Result<PacketBox<Write>, Error> {
        let sent = PacketBox::<Write>::new_buf(room).and_then(|mut packet| {
            let view = packet.bind()?;
            self.serving(E::OPERATION).unwrap_or(self).0.operate::<E>(number, text, view);
            Ok(packet)
        });
        let mut packet = sent.map_err(|error| self.failure_of::<E>(what, &error.into()))?;
        (&mut packet).await;
        // An answer may be shorter than its room: the bytes behind it fail. Only a failure of the first byte means that the
        // operation failed.
        match packet.min_cause() {
            Some((0, cause)) => Err(self.failure_of::<E>(what, &cause)),
            _ => Ok(packet),
        }
    }

    /// The error of an operation that failed. Of a device without the extension, the text says that and not the cause.
    #[cold]
    fn failure_of<E: Operation + ?Sized>(&self, what: What<'_>, cause: &Cause) -> Error {
        let (url, plugin) = (self.url(), &self.plugin().manifest().id);
        let message = if self.can(E::OPERATION) {
            format!("cannot {what} '{url}' (plugin '{plugin}'): {cause}")
        } else {
            let name = E::OPERATION.name();
            format!("cannot {what} '{url}': its plugin '{plugin}' does not support '{name}'")
        };
        Error::new(ErrorKind::Io(cause.error().code()), message).with_cause(cause.clone())
    }
}

/// The names in a folder, page by page: see [`Device::list_pages`].
#[derive(Debug)]
pub struct ListPages<'d> {
    device: &'d Device,
    folder: Vec<u8>,
    /// The cursor of the next page; `None` after the last one.
    from: Option<u64>,
}

impl ListPages<'_> {
    /// The next names; `None` after the last ones. If the future is dropped, the device may have given the page already: the next
    /// call then fails with [`Code::CHANGED`].
    ///
    /// # Errors
    ///
    /// As [`Device::list`]. With [`Code::CHANGED`], the device does not have the rest of the list any more, since many others
    /// were begun meanwhile, or a page was not awaited: begin again.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        let Some(from) = self.from else { return Ok(None) };
        let (entries, next) = self.device.page::<dyn Listing, _>(What("list", &self.folder), from).await?;
        self.from = next;
        Ok(Some(entries))
    }
}

/// The changes of a tree: see [`Device::watch`].
#[derive(Clone, Debug)]
pub struct Changes {
    device: Device,
    /// The cursor of the next change.
    from: u64,
}

impl Changes {
    /// Waits for changes; gives at least one, in order. [`ChangeKind::Missed`](pactio_sdk::ChangeKind::Missed) stands for changes
    /// that were lost: any name may have changed. If the future is dropped, the next call gives the same changes.
    ///
    /// # Errors
    ///
    /// If the tree cannot be watched any more; [`Device::watch`] may begin again.
    pub async fn next(&mut self) -> Result<Vec<Change>, Error> {
        let (changes, next) = self.device.changes_behind(self.from).await?;
        self.from = next;
        Ok(changes)
    }
}

/// Most zeros that are written at once.
const MAX_ZEROS: u64 = 1 << 20;

/// Size of the memory for an answer without bytes, which must not be empty.
const ONE_BYTE: usize = 1;

/// The operation that an extension is called for, in words, and the name that it concerns.
#[derive(Clone, Copy)]
struct What<'a>(&'a str, &'a [u8]);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        match self.1 {
            b"" => Ok(()),
            name => write!(f, " '{}' in", Name::show(name)),
        }
    }
}
