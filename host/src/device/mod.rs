//! An open device and its requests.

mod admission;
mod blocking;
mod buffers;
mod current;
mod descriptor;
mod entry;
mod io;
mod layers;
mod life;
mod lower;
mod many;
mod opening;
mod operations;
mod registered;
mod request;
mod statistics;
mod typed;
mod within;

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use pactio_sdk::abi::{CWaker, DeviceObj, DriverStatus, Remote};
use pactio_sdk::io::ReadNowGate;
use pactio_sdk::{Batch, Capability, Code, Counts, DeviceInfo, Limits, OpenMode, PollingHandle, RequestId};

use crate::executor::{Call, Drive, Driver, Runtime, Views};
use crate::{Error, ErrorKind, Plugin};

pub use buffers::{Buffer, BufferPool};
pub use current::device_in_call;
pub(crate) use entry::Bottom;
pub use life::Health;
pub use opening::Opening;
pub use operations::{Capabilities, Changes, ListPages};
pub(crate) use registered::Registered;
pub use request::{ExactRequest, Named, PartialRequest, ReadValue, WriteValue};
pub(crate) use statistics::Statistics;
pub use statistics::{DeviceStatistics, RequestInFlight};

use admission::AdmissionGate;
use current::Entered;
use descriptor::Descriptor;
use layers::Layers;
use life::Life;

/// An open device. Cheap to clone; all clones are one device, which is closed when the last clone is dropped.
/// [`close`](Self::close) waits for that, and says whether it succeeded.
///
/// A device may be used by any number of tasks and threads at once, and may outlive its host.
///
/// | call | gives |
/// |------|-------|
/// | [`read_exact_at`](Self::read_exact_at), [`write_all_at`](Self::write_all_at) | all bytes or an error |
/// | [`read_at`](Self::read_at), [`write_at`](Self::write_at) | the bytes that could be moved, and a [`Report`](crate::Report) |
/// | [`read`](Self::read), [`write`](Self::write) | one plain value |
///
/// Each call has a `blocking_` form that works on the caller's memory without a copy. Everything that the sdk builds on its
/// [`PacketIo`](pactio_sdk::PacketIo) works as well: streams of segments, vectored requests, exchanges, files.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

pub(crate) struct Shared {
    /// Taken when the device is dropped.
    remote: ManuallyDrop<Remote>,
    life: Arc<Life>,
    /// The admission queue, if the device can be full.
    room: Option<Arc<AdmissionGate>>,
    /// Limits of the requests that its plugin takes.
    limits: Limits,
    /// What the host does to a request before the plugin gets it, if anything.
    layers: Option<Layers>,
    /// Set if the plugin answers some reads at once, and no layer is in front of it.
    read_now: Option<ReadNowGate>,
    /// The record of the device in the host's statistics, if the host keeps them.
    counted: OnceLock<Arc<statistics::CountedDevice>>,
    url: String,
    /// The device below, if there is one.
    below: Option<Device>,
    /// Number of devices that a request may go through, with this one.
    depth: u32,
    plugin: Arc<Plugin>,
    driver: Option<Arc<Driver>>,
    /// The waker that the device gets; made once, so that `will_wake` holds for the device's life.
    waker: Option<CWaker>,
    /// Waits for the device's descriptor, if it has one.
    descriptor: OnceLock<Descriptor>,
    /// The statistics of devices that are opened in this one.
    counting: Option<Arc<Statistics>>,
    /// Keeps the threads that drive this device alive. Declared last, so that it is dropped after the device.
    runtime: Arc<Runtime>,
}

/// Most devices that one request may go through: each takes its part of the thread's stack.
const MAX_DEPTH: u32 = 256;

/// Refuses a stack of more devices than a request may go through.
pub(crate) fn refuse_deep(depth: u32) -> Result<(), Error> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    let text = format!("a device has at most {MAX_DEPTH} layers, but this one would have {depth}");
    Err(Error::new(ErrorKind::Open(Code::INVALID_INPUT), text))
}

impl Device {
    /// `opened` is the depth of the deepest device that the plugin has opened for this one.
    pub(crate) fn new(
        url: String,
        plugin: Arc<Plugin>,
        object: DeviceObj,
        below: Option<Device>,
        opened: u32,
        runtime: Arc<Runtime>,
        statistics: Option<&Arc<Statistics>>,
    ) -> Result<Self, Error> {
        let depth = 1 + below.as_ref().map_or(0, |below| below.depth()).max(opened);
        refuse_deep(depth)?;
        current::register_url_of_device();
        let remote = Remote::new(object);
        let (limits, counts) = (remote.limits(), statistics.map(|_| Counts::default()));
        let handle = remote.polling_handle();
        let room = remote.has(Capability::ADMISSION).then(Arc::<AdmissionGate>::default);
        let layers = Layers::new(limits, counts);
        let read_now = (layers.is_none() && remote.has(Capability::READ_NOW)).then(ReadNowGate::default);
        let shared = Arc::new_cyclic(|this: &Weak<Shared>| {
            let driver = (handle != PollingHandle::None)
                .then(|| Driver::new(this.clone() as Weak<dyn Drive>, runtime.woken()));
            let waker = driver.as_ref().map(|driver| CWaker::from(Waker::from(driver.clone())));
            Shared {
                remote: ManuallyDrop::new(remote),
                life: Life::begin(),
                room,
                limits,
                layers,
                read_now,
                counted: OnceLock::new(),
                url,
                below,
                depth,
                plugin,
                driver,
                waker,
                descriptor: OnceLock::new(),
                counting: statistics.cloned(),
                runtime,
            }
        });
        shared.runtime.watchdog().watch(Arc::downgrade(&shared) as Weak<dyn Drive>);
        // Only now can the driver reach its device.
        if let Some(driver) = &shared.driver {
            if let PollingHandle::Descriptor { descriptor, readable, writable } = handle {
                let watch = Descriptor::new(driver, descriptor, readable, writable).map_err(|error| {
                    let (url, plugin) = (&shared.url, &shared.plugin.manifest().id);
                    let text =
                        format!("cannot wait for the descriptor of '{url}' (plugin '{plugin}'): {error}");
                    Error::new(ErrorKind::Setup, text).with_system(error)
                })?;
                shared.descriptor.get_or_init(|| watch);
            }
            // The first poll, in which the driver gets its waker.
            driver.run_anyway();
        }
        if let Some(statistics) = statistics
            && let Some(counts) = shared.layers.as_ref().and_then(Layers::counts)
        {
            let (id, device) = (&shared.plugin.manifest().id, Arc::downgrade(&shared));
            shared.counted.get_or_init(|| statistics.begin(&shared.url, id, counts.clone(), device));
        }
        Ok(Self(shared))
    }

    /// The URL that the device was opened by.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The device below, if this one is a filter's.
    pub fn below(&self) -> Option<&Device> {
        self.0.below.as_ref()
    }

    /// Number of devices that a request may go through, with this one.
    pub(crate) fn depth(&self) -> u32 {
        self.0.depth
    }

    /// The plugin that the device belongs to.
    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }

    /// The current information of the device about itself.
    pub fn info(&self) -> DeviceInfo {
        let info = {
            let _entered = Entered::new(&self.0, Call::Info);
            self.0.remote.info()
        };
        self.0.wake_waiting();
        info
    }

    /// Size in bytes now, if the device knows it.
    pub fn size(&self) -> Option<u64> {
        self.info().size()
    }
}

impl Drive for Shared {
    unsafe fn poll_driver(&self) -> DriverStatus {
        let _entered = Entered::new(self, Call::Driver);
        match &self.waker {
            // SAFETY: the caller promises that no other poll of this driver is under way, on any thread.
            Some(waker) => unsafe { self.remote.poll_driver(waker) },
            None => DriverStatus::ENDED,
        }
    }

    fn send(&self, views: &mut Views) {
        if let Some(error) = self.life.refusal() {
            return views.fail(error);
        }
        {
            let _entered = Entered::new(self, Call::Request);
            if !views.reads.is_empty() {
                self.remote.send_many(Batch::drain(&mut views.reads));
            }
            if !views.writes.is_empty() {
                self.remote.send_many(Batch::drain(&mut views.writes));
            }
        }
        // After the call, since the wakers are not the plugin's code.
        self.wake_waiting();
    }

    fn cancel_late(&self, request: RequestId) {
        self.cancel_at_device(request);
    }

    fn watch_deferred(&self, driver: &Arc<Driver>) {
        self.runtime.watchdog().watch_deferred(driver.clone());
    }

    fn watch_again(&self) {
        let Some(descriptor) = self.descriptor.get() else { return };
        let handle = {
            let _entered = Entered::new(self, Call::Driver);
            self.remote.polling_handle()
        };
        // The directions may change with each poll. The descriptor stays the same.
        if let PollingHandle::Descriptor { readable, writable, .. } = handle {
            descriptor.watch_again(readable, writable);
        }
    }

    fn rescue(&self) {
        if let Some(driver) = &self.driver {
            driver.rescue();
        }
    }

    fn hangs(&self, call: Call, time: Duration) {
        self.life.hangs(call, time);
        let (device, plugin) = (self.url.as_str(), self.plugin.manifest().id.as_str());
        tracing::error!(
            device,
            plugin,
            call = call.name(),
            "the plugin has not come back for {time:.1?}; the device fails new requests until it does"
        );
    }

    fn came_back(&self, call: Call, time: Duration) {
        let (device, plugin) = (self.url.as_str(), self.plugin.manifest().id.as_str());
        tracing::warn!(device, plugin, call = call.name(), "the plugin came back after {time:.1?}");
        self.life.came_back();
    }

    fn driver_ended(&self, status: DriverStatus) {
        // A device that is out of use admits each request and then fails it, so the callers that wait for room ask again.
        self.wake_waiting();
        let (device, plugin) = (self.url.as_str(), self.plugin.manifest().id.as_str());
        if status == DriverStatus::PANICKED {
            tracing::error!(device, plugin, "the device's driver panicked; its requests fail from now on");
        } else {
            tracing::warn!(device, plugin, "the device's driver ended; its requests fail from now on");
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("url", &self.0.url)
            .field("plugin", &self.0.plugin.manifest().id)
            .finish()
    }
}

/// The purposes that a device is opened for. As in the standard library, everything is off at first; opening a device neither to
/// read nor to write is an error.
///
/// ```
/// # use pactio::OpenOptions;
/// let copy_target = OpenOptions::new().replace(true);
/// let in_place = OpenOptions::new().read(true).write(true);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions(OpenMode, Option<Duration>);

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Options with everything off.
    pub const fn new() -> Self {
        Self(OpenMode::NONE, None)
    }

    /// Refuses combinations that no device can be opened with.
    pub(crate) fn check(self, url: &str) -> Result<(), Error> {
        let has = |mode| self.0.contains(mode);
        let what = if !has(OpenMode::READ) && !has(OpenMode::WRITE) {
            "it is opened neither to be read nor to be written: see `OpenOptions::read` and `OpenOptions::write`"
        } else if !has(OpenMode::WRITE) && (has(OpenMode::CREATE) || has(OpenMode::TRUNCATE)) {
            "only a device that is opened for writing can be created or emptied: see `OpenOptions::write`"
        } else if has(OpenMode::REPLACE) && (has(OpenMode::READ) || has(OpenMode::TRUNCATE)) {
            "content that is replaced is neither read nor emptied: see `OpenOptions::replace`"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Open(Code::INVALID_INPUT), format!("cannot open '{url}': {what}")))
    }

    fn set(self, bit: OpenMode, on: bool) -> Self {
        let bits = [OpenMode::READ, OpenMode::WRITE, OpenMode::CREATE, OpenMode::TRUNCATE, OpenMode::REPLACE];
        let wanted = |other: &OpenMode| if *other == bit { on } else { self.0.contains(*other) };
        Self(bits.into_iter().filter(wanted).fold(OpenMode::NONE, |mode, bit| mode | bit), self.1)
    }

    /// Whether the device is opened to be read.
    #[must_use]
    pub fn read(self, on: bool) -> Self {
        self.set(OpenMode::READ, on)
    }

    /// Whether the device is opened to be written.
    #[must_use]
    pub fn write(self, on: bool) -> Self {
        self.set(OpenMode::WRITE, on)
    }

    /// Whether the device is created if it does not exist.
    #[must_use]
    pub fn create(self, on: bool) -> Self {
        self.set(OpenMode::CREATE, on)
    }

    /// Whether the device is emptied if it exists.
    #[must_use]
    pub fn truncate(self, on: bool) -> Self {
        self.set(OpenMode::TRUNCATE, on)
    }

    /// Whether the device is written anew as a whole: the previous content stays until [`Device::publish`], and without that
    /// call, nothing changes. If `on`, this also turns [`write`](Self::write) and [`create`](Self::create) on.
    ///
    /// A file is replaced by a new file of the same name, mode and extended attributes, in the same folder; symbolic links are
    /// followed. A device that cannot be replaced in this way, such as a disk or memory, is opened as it is: it does not have
    /// [`Capability::PUBLISH`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// use pactio::OpenOptions;
    ///
    /// let device = host.open_with("file:settings", OpenOptions::new().replace(true))?;
    /// host.block_on(async {
    ///     device.write_all_at(0, b"all of it".to_vec()).await?;
    ///     // Only now does another reader of the file see something new.
    ///     device.publish().await
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn replace(self, on: bool) -> Self {
        let this = if on { self.write(true).create(true) } else { self };
        this.set(OpenMode::REPLACE, on)
    }

    /// The longest time that opening may take. When the time is over, the caller gets an error with [`Code::TIMED_OUT`], even if
    /// the plugin has not come back. If the plugin opens the device later, the device is closed at once. With a limit, the device
    /// is opened on a thread of the host.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// use pactio::OpenOptions;
    ///
    /// let options = OpenOptions::new().read(true).within(Duration::from_secs(2));
    /// let device = host.open_with("https://127.0.0.1/slow", options)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn within(self, limit: Duration) -> Self {
        Self(self.0, Some(limit))
    }

    pub(crate) fn limit(self) -> Option<Duration> {
        self.1
    }

    pub(crate) fn without_limit(self) -> Self {
        Self(self.0, None)
    }

    pub(crate) fn from_mode(mode: OpenMode) -> Self {
        Self(mode, None)
    }

    pub(crate) fn mode(self) -> OpenMode {
        self.0
    }
}
