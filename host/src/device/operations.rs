//! What a device can do beyond reading and writing.

use std::fmt;

use pactio_sdk::ext::{EXTENSIONS, Operation};
use pactio_sdk::{
    Capability, Cause, Code, Describe, Entry, Figure, Flush, FlushScope, IoError, Limits, Listing, Mapping,
    Name, Origin, PacketBox, Provenance, Record, Region, Resize, Stat, Statistics, Write, read_records,
};

use super::Device;
use crate::{Error, ErrorKind};

/// Room for one answer. A name may be nearly as long.
const ANSWER_BYTES: usize = 1 << 16;

/// A list that is longer than this has no end.
const MAX_RECORDS: usize = 1 << 24;

/// What a device can do: see [`Device::capabilities`].
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
    /// The device has this extension.
    pub fn has(&self, capability: Capability) -> bool {
        self.has.contains(&capability)
    }

    /// All extensions that the device has.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.has.iter().copied()
    }

    /// Which requests the plugin takes. A [`Device`] takes all, and keeps to these towards the plugin.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

impl Device {
    /// What the device can do. Asks the plugin for each extension once in the device's life.
    pub fn capabilities(&self) -> Capabilities {
        let has = EXTENSIONS.iter().copied().filter(|capability| self.can(*capability)).collect();
        Capabilities { has, limits: self.0.limits }
    }

    /// Which requests the plugin takes.
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The device has an extension.
    fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::OPEN => self.tree().has(capability),
            _ => self.0.remote.has(capability),
        }
    }

    /// Makes everything last that was written before, with all that is known of it. A device that keeps nothing for later
    /// has nothing to do.
    ///
    /// # Errors
    ///
    /// Why it may be lost.
    pub async fn flush(&self) -> Result<(), Error> {
        self.flush_scope(FlushScope::All).await
    }

    /// The same for the bytes alone, which may be faster.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn flush_data(&self) -> Result<(), Error> {
        self.flush_scope(FlushScope::Data).await
    }

    /// Has others see what was written, where that is not so at once: an object is uploaded as a whole, and does not exist before.
    /// Without it, closing the device gives up what was written to it. Elsewhere there is nothing to do.
    ///
    /// # Errors
    ///
    /// Why it cannot be seen.
    pub async fn publish(&self) -> Result<(), Error> {
        self.flush_scope(FlushScope::Visible).await
    }

    async fn flush_scope(&self, scope: FlushScope) -> Result<(), Error> {
        if !self.can(Capability::FLUSH) {
            return Ok(());
        }
        let what =
            What(if scope == FlushScope::Visible { "publish what was written to" } else { "flush" }, b"");
        self.ask::<dyn Flush>(what, scope.to_raw(), ONE_BYTE).await.map(drop)
    }

    /// Makes the device `size` bytes long. New bytes read as zeros.
    ///
    /// # Errors
    ///
    /// If it cannot do that, or why it did not.
    pub async fn resize(&self, size: u64) -> Result<(), Error> {
        let what = format!("set a size of {size} bytes on");
        self.ask::<dyn Resize>(What(&what, b""), size, ONE_BYTE).await.map(drop)
    }

    /// What is known of the stored bytes: kind, size, times, identity, version. A device that tells nothing gives a record with its
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
    /// Why that could not be found out.
    pub async fn stat(&self) -> Result<Stat, Error> {
        let mut stat = Stat::default();
        if self.can(Capability::STAT) {
            let what = What("find out what is known of", b"");
            let packet = self.ask::<dyn Describe>(what, 0, ANSWER_BYTES).await?;
            let read = packet.simple_contiguous_slice().and_then(read_records::<Stat>);
            let (mut records, _) = read.map_err(|error| self.refused::<dyn Describe>(what, &error.into()))?;
            stat = records.pop().unwrap_or_default();
        }
        stat.size = stat.size.or_else(|| self.size());
        Ok(stat)
    }

    /// The names in a folder of a device that is a tree. `folder` is the names on the way, joined with `/`; empty for the root. Names
    /// are bytes: a [`Name`](crate::Name) shows one as text.
    ///
    /// # Errors
    ///
    /// If the device is no tree, or there is no such folder.
    pub async fn list(&self, folder: impl AsRef<[u8]>) -> Result<Vec<Entry>, Error> {
        self.collect::<dyn Listing, _>(What("list", folder.as_ref())).await
    }

    /// Which sources of a tree made of others have a name, in the order in which it is looked up: the first serves it, and hides the
    /// rest.
    ///
    /// # Errors
    ///
    /// If the device is no such tree, or no source has the name.
    pub async fn provenance(&self, name: impl AsRef<[u8]>) -> Result<Vec<Origin>, Error> {
        self.collect::<dyn Provenance, _>(What("find", name.as_ref())).await
    }

    /// The ranges of positions that exist, in order: of a device with holes, such as a file or the memory of a process. All of
    /// it, if the device does not say.
    ///
    /// # Errors
    ///
    /// Why that could not be found out.
    pub async fn regions(&self) -> Result<Vec<Region>, Error> {
        if self.can(Capability::MAP) {
            return self.collect::<dyn Mapping, _>(What("find the regions of", b"")).await;
        }
        let info = self.info();
        let mut all = Region::new(0..info.size().unwrap_or(u64::MAX));
        (all.readable, all.writable) = (info.readable(), info.writable());
        Ok(vec![all])
    }

    /// What the device counts, if it does.
    ///
    /// # Errors
    ///
    /// Why that could not be found out.
    pub async fn statistics(&self) -> Result<Vec<Figure>, Error> {
        if !self.can(Capability::STATISTICS) {
            return Ok(Vec::new());
        }
        self.collect::<dyn Statistics, _>(What("get the statistics of", b"")).await
    }

    /// All records of as many answers as it takes.
    async fn collect<E: Operation + ?Sized, R: Record>(&self, what: What<'_>) -> Result<Vec<R>, Error> {
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            let packet = self.ask::<E>(what, from, ANSWER_BYTES).await?;
            let answer = packet.simple_contiguous_slice().and_then(read_records::<R>);
            let (records, next) = answer.map_err(|error| self.refused::<E>(what, &error.into()))?;
            let none = records.is_empty();
            all.extend(records);
            match next {
                None => return Ok(all),
                // A device that says again and again that there is more would be asked for ever.
                Some(next) if none || next == from || all.len() > MAX_RECORDS => {
                    return Err(self.refused::<E>(what, &IoError::from_code(Code::CORRUPT).into()));
                }
                Some(next) => from = next,
            }
        }
    }

    /// Has an extension do something; gives the answer, of at most `room` bytes and at least one.
    async fn ask<E: Operation + ?Sized>(
        &self,
        what: What<'_>,
        number: u64,
        room: usize,
    ) -> Result<PacketBox<Write>, Error> {
        let sent = PacketBox::<Write>::new_buf(room).and_then(|mut packet| {
            let view = packet.bind()?;
            self.operate::<E>(number, what.1, view);
            Ok(packet)
        });
        let mut packet = sent.map_err(|error| self.refused::<E>(what, &error.into()))?;
        (&mut packet).await;
        match packet.report().min_cause() {
            Some((0, cause)) => Err(self.refused::<E>(what, cause)),
            _ => Ok(packet),
        }
    }

    /// Has an extension do something, and the device's driver looked after.
    pub(super) fn operate<E: Operation + ?Sized>(
        &self,
        number: u64,
        text: &[u8],
        view: pactio_sdk::BoundPacketView<Write>,
    ) {
        self.helped(|remote| remote.operate::<E>(number, text, view));
    }

    #[cold]
    fn refused<E: Operation + ?Sized>(&self, what: What<'_>, cause: &Cause) -> Error {
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

/// Room for an answer without bytes.
const ONE_BYTE: usize = 1;

/// What an extension is asked to do, in words, and the name that it concerns.
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
