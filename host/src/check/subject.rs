//! The device that is checked, and its expected content.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use pactio_sdk::{Code, IntoPacket, Report, Write};

use crate::{Device, Error, ErrorKind, Host, OpenOptions};

/// Why a case ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A mistake was found.
    Wrong(String),
    /// The case does not concern this device.
    DoesNotApply(String),
}

/// Ends a case with a formatted mistake.
macro_rules! wrong {
    ($($arguments:tt)*) => {
        return Err($crate::check::Finding::Wrong(format!($($arguments)*)))
    };
}
pub(super) use wrong;

/// Largest number of bytes of a device that are checked. A device without a size is checked up to this number.
const MAX_SAMPLE_BYTES: u64 = 128 << 10;

/// Time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device to check, its expected content, and the part and the tree to check.
///
/// ```
/// use pactio::check::Plan;
///
/// // The first page at an address of this process.
/// let plan = Plan::new("process:self", 7).with_range(0x7f00_0000_0000, Some(4096));
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    url: String,
    seed: u64,
    sample: Option<Vec<u8>>,
    tree: Option<String>,
}

impl Plan {
    /// The device of a URL. All random choices follow from `seed`.
    pub fn new(url: &str, seed: u64) -> Self {
        Self { url: url.to_owned(), seed, sample: None, tree: None }
    }

    /// The device begins with these bytes, and ends behind them unless they are 128 KiB or more. It is opened only to be read.
    #[must_use]
    pub fn with_sample(self, sample: Vec<u8>) -> Self {
        Self { sample: Some(sample), ..self }
    }

    /// Only a part of the device is checked. The host needs the [`PLUGINS`](super::PLUGINS) of the suite.
    #[must_use]
    pub fn with_range(self, offset: u64, length: Option<u64>) -> Self {
        let length = length.map_or(String::new(), |length| format!("&length={length}"));
        Self { url: format!("{} | {}?offset={offset}{length}", self.url, super::window::SCHEME), ..self }
    }

    /// The names of this tree are checked, instead of those of the trees that the device is in. Without a sample, names that
    /// begin with `pactio-check-` are made in it, changed and removed.
    #[must_use]
    pub fn with_tree(self, url: &str) -> Self {
        Self { tree: Some(url.to_owned()), ..self }
    }
}

/// A URL, a device of it, and the expected content of the device.
#[derive(Debug)]
pub struct Subject {
    pub(super) host: Host,
    pub(super) url: String,
    pub(super) device: Device,
    /// The expected first bytes; all bytes of the device, unless it is large.
    pub(super) model: RefCell<Vec<u8>>,
    /// The device was opened for writing, and reports that it can be written.
    pub(super) writable: bool,
    /// The device ends where the model ends.
    pub(super) whole: bool,
    /// The device is not written by any case.
    pub(super) only_read: bool,
    /// The tree to check the names of, if another than the device's.
    pub(super) tree: Option<String>,
    random: RefCell<fastrand::Rng>,
}

impl Subject {
    /// Opens a device, for writing if that is possible; in that case all of it, or the first part, is filled at random.
    ///
    /// # Errors
    ///
    /// If the device cannot be opened, filled or read.
    pub fn new(host: &Host, url: &str, seed: u64) -> Result<Self, Finding> {
        Self::of(host, Plan::new(url, seed))
    }

    /// Opens a device as planned.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), or if the device does not have the content of the sample.
    pub fn of(host: &Host, plan: Plan) -> Result<Self, Finding> {
        let Plan { url, seed, sample, tree } = plan;
        let (device, writable) = match &sample {
            Some(_) => (host.open(&url).map_err(unexpected)?, false),
            None => open(host, &url)?,
        };
        let info = device.info();
        if info.is_stream() {
            return Err(Finding::DoesNotApply("it is a stream, which has no positions".to_owned()));
        }
        let writable = writable && info.writable();
        let unit = u64::from(device.capabilities().limits().alignment());
        let size = info.size().filter(|&size| size > 0 || !writable);
        let len = size.unwrap_or(MAX_SAMPLE_BYTES).min(MAX_SAMPLE_BYTES);
        let len = if writable { len - len % unit } else { len };
        let whole = size == Some(len);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model = vec![0; len as usize];
        let subject = |model, random| Self {
            host: host.clone(),
            url: url.clone(),
            device: device.clone(),
            model: RefCell::new(model),
            writable,
            whole,
            only_read: sample.is_some(),
            tree: tree.clone(),
            random: RefCell::new(random),
        };
        if writable {
            random.fill(&mut model);
            let this = subject(model, random);
            let all = this.model.borrow().clone();
            this.write(0, &all).map_err(|finding| match finding {
                Finding::Wrong(what) => Finding::Wrong(format!("it says that it can be written, but {what}")),
                other => other,
            })?;
            if all.len() as u64 != len || !info.readable() {
                return Ok(this);
            }
            // A device that had no size may have one now.
            let whole = whole || this.device.size() == Some(len);
            return Ok(Self { whole, ..this });
        }
        let this = subject(Vec::new(), random);
        if info.readable() {
            let (report, bytes) = this.read_at(0, model)?;
            if let Some((offset, error)) = report.min_error().filter(|_| !report.is_done()) {
                if size.is_some() || error.code() != Code::END {
                    wrong!(
                        "of the first {len} bytes that it says it has, reading fails at {offset}: {error}"
                    );
                }
                // The end of the device is only found by reading.
                this.model.replace(bytes[..offset].to_vec());
                return Self { whole: true, ..this }.with_content_of(sample.as_deref());
            }
            this.model.replace(bytes);
        }
        this.with_content_of(sample.as_deref())
    }

    /// Compares the content with a sample, if there is one.
    fn with_content_of(self, sample: Option<&[u8]>) -> Result<Self, Finding> {
        if let Some(sample) = sample {
            let model = self.model.borrow();
            let expected = &sample[..sample.len().min(MAX_SAMPLE_BYTES as usize)];
            same(&model, expected, 0)?;
            if model.len() != expected.len() {
                wrong!("it has {} bytes, but the sample has {}", model.len(), expected.len());
            }
        }
        Ok(self)
    }

    /// Opens the URL again.
    pub(super) fn open(&self) -> Result<Device, Finding> {
        if self.only_read {
            return self.host.open(&self.url).map_err(unexpected);
        }
        open(&self.host, &self.url).map(|(device, _)| device)
    }

    /// A random number below `bound`, or 0 if that is 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.random.borrow_mut().usize(0..bound) }
    }

    /// Positions and lengths of writes are multiples of this.
    pub(super) fn unit(&self) -> usize {
        self.device.capabilities().limits().alignment() as usize
    }

    /// A random range that exists, of at least one byte.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        let len = self.model.borrow().len();
        let start = self.below(len);
        start..start + 1 + self.below((len - start).min(5000))
    }

    /// A random range that exists, of whole units.
    pub(super) fn range_to_write(&self) -> std::ops::Range<usize> {
        let (range, unit) = (self.range(), self.unit());
        let len = self.model.borrow().len();
        let start = range.start - range.start % unit;
        start..range.end.next_multiple_of(unit).min(len - len % unit)
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, Finding> {
        wait(&self.host, what, future)
    }

    /// Reads the bytes that can be read; a view that the device dropped is a mistake.
    pub(super) fn read_at<B: IntoPacket<Write>>(
        &self,
        position: u64,
        buffer: B,
    ) -> Result<(Report, <B::Store as pactio_sdk::PacketStore<Write>>::Back), Finding> {
        let what = format!("a read at {position}");
        let result = self.wait(&what, self.device.read_at(position, buffer))?;
        let (report, back) = result.map_err(unexpected)?;
        answered(&what, &report)?;
        Ok((report, back))
    }

    /// Reads a range and compares it with the model.
    pub(super) fn read(&self, range: std::ops::Range<usize>) -> Result<(), Finding> {
        let (report, bytes) = self.read_at(range.start as u64, vec![0; range.len()])?;
        if !report.is_done() {
            wrong!("a read of {range:?}, which exists, was not done: {report}");
        }
        same(&bytes, &self.model.borrow()[range.clone()], range.start)
    }

    /// Writes to the device. The caller updates the model.
    pub(super) fn write(&self, position: usize, bytes: &[u8]) -> Result<(), Finding> {
        let what = format!("a write at {position}");
        let written = self.wait(&what, self.device.write_at(position as u64, bytes.to_vec()))?;
        let (report, back) = written.map_err(unexpected)?;
        answered(&what, &report)?;
        if !report.is_done() {
            wrong!("{what} of {} bytes was not done: {report}", bytes.len());
        }
        if back != bytes {
            wrong!("{what} changed the bytes that were to be written");
        }
        Ok(())
    }

    /// Checks that the device still has the expected content.
    pub(super) fn read_all(&self) -> Result<(), Finding> {
        let len = self.model.borrow().len();
        if len == 0 || !self.device.info().readable() { Ok(()) } else { self.read(0..len) }
    }

    /// Ends a case that needs bytes to read, if the device has none.
    pub(super) fn needs_bytes(&self) -> Result<(), Finding> {
        if !self.device.info().readable() {
            return Err(Finding::DoesNotApply("it cannot be read".to_owned()));
        }
        if self.model.borrow().is_empty() {
            return Err(Finding::DoesNotApply("it is empty".to_owned()));
        }
        Ok(())
    }
}

/// Waits for an answer.
pub(super) fn wait<T>(host: &Host, what: &str, future: impl Future<Output = T>) -> Result<T, Finding> {
    let late = async {
        async_io::Timer::after(PATIENCE).await;
        None
    };
    let result = host.block_on(futures_lite::future::or(async { Some(future.await) }, late));
    result.ok_or_else(|| Finding::Wrong(format!("{what} was not answered within {PATIENCE:?}")))
}

/// Checks that bytes of a device are those of the model.
pub(super) fn same(bytes: &[u8], model: &[u8], start: usize) -> Result<(), Finding> {
    match bytes.iter().zip(model).position(|(one, other)| one != other) {
        None => Ok(()),
        Some(offset) => {
            wrong!("byte {} is {}, but should be {}", start + offset, bytes[offset], model[offset])
        }
    }
}

/// Checks that no part was dropped, and nothing panicked.
pub(super) fn answered(what: &str, report: &Report) -> Result<(), Finding> {
    for (range, error) in report.failed_ranges() {
        if matches!(
            error.code(),
            Code::UNANSWERED
                | Code::PANICKED
                | Code::POISONED
                | Code::DRIVER_ENDED
                | Code::IN_FLIGHT
                | Code::NOT_SUBMITTED
        ) {
            wrong!("{what}: the bytes {range:?}: {error}");
        }
    }
    Ok(())
}

pub(super) fn unexpected(error: Error) -> Finding {
    Finding::Wrong(error.to_string())
}

/// Opens a device for reading and writing (`true`), or only for reading if that is not possible (`false`).
pub(super) fn open(host: &Host, url: &str) -> Result<(Device, bool), Finding> {
    let both = OpenOptions::new().read(true).write(true).create(true);
    match host.open_with(url, both) {
        Ok(device) => Ok((device, true)),
        Err(error) => match error.kind() {
            ErrorKind::Open(
                Code::READ_ONLY | Code::PERMISSION_DENIED | Code::UNSUPPORTED | Code::INVALID_INPUT,
            ) => host.open(url).map(|device| (device, false)).map_err(unexpected),
            _ => Err(unexpected(error)),
        },
    }
}
