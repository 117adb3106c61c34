//! What a device may do beyond reading and writing.

use std::fmt;

use pactio_sdk::abi::Operation;
use pactio_sdk::{
    Code, Entry, Figure, FlushScope, Limits, Origin, PacketBox, Record, Region, Write, read_records,
};

use super::Device;
use crate::{Error, ErrorKind};

/// Room for one answer. A name may be nearly as long.
const ANSWER: usize = 1 << 16;

/// A list that is longer than this has no end.
const MOST_RECORDS: usize = 1 << 24;

/// What a device can do, as it was when it was opened: see [`Device::capabilities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Device::flush`].
    pub flush: bool,
    /// [`Device::resize`].
    pub resize: bool,
    /// [`Device::list`].
    pub list: bool,
    /// [`Device::open`].
    pub open: bool,
    /// [`Device::provenance`].
    pub provenance: bool,
    /// [`Device::regions`].
    pub regions: bool,
    /// [`Device::statistics`].
    pub statistics: bool,
    /// Requests can be given up.
    pub cancel: bool,
    /// It can be full, and requests wait then.
    pub full: bool,
    /// Which requests the plugin takes. A [`Device`] takes all, and keeps to these towards the plugin.
    pub limits: Limits,
}

impl Device {
    /// What the device can do.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// let device = host.open("file:/data/image")?;
    /// if device.capabilities().resize {
    ///     host.block_on(device.resize(1 << 20))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        let remote = &self.0.remote;
        Capabilities {
            flush: remote.does(Operation::FLUSH),
            resize: remote.does(Operation::RESIZE),
            list: remote.does(Operation::LIST),
            open: self.tree().opens(),
            provenance: remote.does(Operation::PROVENANCE),
            regions: remote.does(Operation::MAP),
            statistics: remote.does(Operation::STATISTICS),
            cancel: remote.cancels(),
            full: remote.admits(),
            limits: self.0.limits,
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
        if self.0.remote.does(Operation::FLUSH) {
            self.ask(Operation::Flush(scope), 1).await?;
        }
        Ok(())
    }

    /// Makes the device `size` bytes long. What is new reads as zeros.
    ///
    /// # Errors
    ///
    /// If it cannot do that, or why it did not.
    pub async fn resize(&self, size: u64) -> Result<(), Error> {
        self.ask(Operation::Resize(size), 1).await.map(drop)
    }

    /// The names in a folder of a device that is a tree. `folder` is the names on the way, joined with `/`; empty for the root.
    ///
    /// # Errors
    ///
    /// If the device is no tree, or there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>, Error> {
        self.collect(|from| Operation::List(folder, from), 0).await
    }

    /// Which sources of a tree made of others have a name, in the order in which it is looked up: the first serves it, and hides the
    /// rest.
    ///
    /// # Errors
    ///
    /// If the device is no such tree, or no source has the name.
    pub async fn provenance(&self, name: &str) -> Result<Vec<Origin>, Error> {
        self.collect(|from| Operation::Provenance(name, from), 0).await
    }

    /// The ranges of positions that exist, in order: of a device with holes, such as a file or the memory of a process. All of
    /// it, if the device does not say.
    ///
    /// # Errors
    ///
    /// Why that could not be found out.
    pub async fn regions(&self) -> Result<Vec<Region>, Error> {
        if self.0.remote.does(Operation::MAP) {
            return self.collect(Operation::Map, 0).await;
        }
        let info = self.info();
        Ok(vec![Region {
            range: 0..info.size().unwrap_or(u64::MAX),
            readable: info.readable(),
            writable: info.writable(),
            executable: false,
            name: String::new(),
        }])
    }

    /// What the device counts, if it does.
    ///
    /// # Errors
    ///
    /// Why that could not be found out.
    pub async fn statistics(&self) -> Result<Vec<Figure>, Error> {
        if !self.0.remote.does(Operation::STATISTICS) {
            return Ok(Vec::new());
        }
        self.collect(Operation::Statistics, 0).await
    }

    /// All records of as many answers as it takes.
    async fn collect<'a, R: Record>(
        &self,
        operation: impl Fn(u64) -> Operation<'a>,
        start: u64,
    ) -> Result<Vec<R>, Error> {
        let mut all = Vec::new();
        let mut from = start;
        loop {
            let packet = self.ask(operation(from), ANSWER).await?;
            let answer = packet.simple_contiguous_slice().and_then(read_records::<R>);
            let (records, next) = answer.map_err(|error| self.refused(operation(from), error))?;
            let none = records.is_empty();
            all.extend(records);
            match next {
                None => return Ok(all),
                // A device that says again and again that there is more would be asked for ever.
                Some(next) if none || next == from || all.len() > MOST_RECORDS => {
                    return Err(self.refused(operation(from), pactio_sdk::IoError::from_code(Code::CORRUPT)));
                }
                Some(next) => from = next,
            }
        }
    }

    /// Has the device do something; gives the answer, of at most `room` bytes and at least one.
    async fn ask(&self, operation: Operation<'_>, room: usize) -> Result<PacketBox<Write>, Error> {
        let sent = PacketBox::<Write>::new_buf(room).and_then(|mut packet| {
            let view = packet.bind()?;
            self.operate(operation, view);
            Ok(packet)
        });
        let mut packet = sent.map_err(|error| self.refused(operation, error))?;
        (&mut packet).await;
        packet.err_on_zero().map_err(|error| self.refused(operation, error))?;
        Ok(packet)
    }

    /// Has the device do something, and its driver looked after.
    pub(super) fn operate(&self, operation: Operation<'_>, view: pactio_sdk::BoundPacketView<Write>) {
        self.helped(|remote| remote.operate(operation, view));
    }

    #[cold]
    fn refused(&self, operation: Operation<'_>, error: pactio_sdk::IoError) -> Error {
        let (url, plugin) = (self.url(), &self.plugin().manifest().id);
        let what = What(operation);
        let message = if self.0.remote.does(operation) {
            format!("cannot {what} '{url}' (plugin '{plugin}'): {error}")
        } else {
            format!("cannot {what} '{url}': its plugin '{plugin}' has no '{}'", operation.name())
        };
        Error::new(ErrorKind::Io(error.code()), message)
    }
}

/// An operation in words.
struct What<'a>(Operation<'a>);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::Flush(FlushScope::Visible) => f.write_str("publish what was written to"),
            Operation::Flush(_) => f.write_str("flush"),
            Operation::Resize(size) => write!(f, "make {size} bytes of"),
            Operation::List("", _) => f.write_str("list"),
            Operation::List(folder, _) => write!(f, "list '{folder}' of"),
            Operation::Map(_) => f.write_str("find the regions of"),
            Operation::Provenance(name, _) => write!(f, "find '{name}' in"),
            Operation::Statistics(_) => f.write_str("get the statistics of"),
        }
    }
}
