//! The host: finds plugins, opens devices, runs tasks.

mod live;
mod opener;
mod profiles;
mod scope;

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pactio_sdk::abi::{DeviceObj, host_device};
use pactio_sdk::{Code, LinkedPlugin, OpenMode};

use crate::device::{DeviceStatistics, RequestInFlight, Statistics, refuse_deep};
use crate::executor::{self, Runtime};
use crate::plugin::{Lower, Policy, Registry, SearchPaths, Trust};
pub use live::LiveDevice;
use opener::Opener;
use profiles::Profiles;
pub use scope::{Scope, Scoped};

use crate::{Candidate, Device, Error, ErrorKind, OpenOptions, Opening, Plugin, Task, Url};

/// Plugins and an executor. Cheap to clone; all clones are one host.
#[derive(Clone)]
pub struct Host {
    known: Arc<Plugins>,
    profiles: Arc<Profiles>,
    runtime: Arc<Runtime>,
    statistics: Option<Arc<Statistics>>,
}

/// The longest time that closing a refused device may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A layer that is put onto a device.
enum Step<'a> {
    Filter(&'a Url, &'a Arc<Plugin>),
    /// The entry of the device with this name.
    Name(&'a pactio_sdk::Name),
}

/// The plugins that a host knows.
struct Plugins {
    registry: RwLock<Arc<Registry>>,
    /// Held during a rescan: one rescan runs at a time, and other threads can open devices meanwhile.
    rescan: Mutex<()>,
}

/// Sets up a [`Host`].
#[derive(Clone, Debug)]
pub struct HostBuilder {
    linked: Vec<LinkedPlugin>,
    folders: Vec<PathBuf>,
    default_folders: bool,
    profiles: Option<PathBuf>,
    worker_threads: Option<usize>,
    hang_limit: Duration,
    statistics: bool,
    policy: Policy,
}

impl Host {
    /// A builder that sets up a host.
    pub fn builder() -> HostBuilder {
        HostBuilder {
            linked: Vec::new(),
            folders: Vec::new(),
            default_folders: true,
            profiles: None,
            worker_threads: None,
            hang_limit: Duration::from_secs(5),
            statistics: false,
            policy: Policy::default(),
        }
    }

    /// Opens a device to be read, by URL: `scheme:target?key=value`, or `profile:name` for a device that is described in the file
    /// of [profiles](HostBuilder::profiles), and then any filters: `... | name?key=value`. The call blocks for as long as opening
    /// takes; [`opening`](Self::opening) does not.
    ///
    /// # Errors
    ///
    /// If the URL is invalid, no plugin has its scheme, or the plugin cannot open it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// let host = pactio::Host::builder().build()?;
    /// let device = host.open("file:/etc/hostname")?;
    /// println!("{:?} bytes", device.size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, url: &str) -> Result<Device, Error> {
        self.open_url(&url.parse()?, OpenOptions::new().read(true))
    }

    /// Opens a device with `options`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(&self, url: &str, options: OpenOptions) -> Result<Device, Error> {
        self.open_url(&url.parse()?, options)
    }

    /// Opens a device by a URL that was made of parts.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_url(&self, url: &Url, options: OpenOptions) -> Result<Device, Error> {
        options.check(&format!("{}:...", url.scheme()))?;
        if options.limit().is_some() {
            return futures_lite::future::block_on(self.opening_url(url.clone(), options));
        }
        if self.runtime.was_forked() {
            let text = format!(
                "cannot open '{}:...': this process was forked off from the one that made the host",
                url.scheme()
            );
            return Err(Error::new(ErrorKind::Open(Code::UNSUPPORTED), text).with_hint("make a new host"));
        }
        self.open_nested(url, options, 0)
    }

    /// Opens a device with `options`, and does not block: the result is a future. Any number of devices may be opened at once; up
    /// to 256 of the process are opened at the same time.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(host: &pactio::Host) -> Result<(), pactio::Error> {
    /// use pactio::OpenOptions;
    ///
    /// let options = OpenOptions::new().read(true).within(Duration::from_secs(2));
    /// let device = host.opening("https://127.0.0.1/slow", options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The future gives the errors of [`open`](Self::open).
    pub fn opening(&self, url: &str, options: OpenOptions) -> Opening {
        match url.parse() {
            Ok(url) => self.opening_url(url, options),
            Err(error) => Opening::failed(error),
        }
    }

    /// Opens a device by a URL that was made of parts, and does not block: see [`opening`](Self::opening).
    ///
    /// # Errors
    ///
    /// The future gives the errors of [`open`](Self::open).
    pub fn opening_url(&self, url: Url, options: OpenOptions) -> Opening {
        let (host, plain) = (self.clone(), options.without_limit());
        Opening::begin(format!("open '{url}'"), options.limit(), move || host.open_url(&url, plain))
    }

    /// Opens a device during `depth` other openings that are nested.
    pub(crate) fn open_nested(&self, url: &Url, options: OpenOptions, depth: u32) -> Result<Device, Error> {
        let resolved;
        let url = if profiles::is_profile(url) {
            resolved = self.profiles.resolve(url)?;
            &resolved
        } else {
            url
        };
        refuse_deep(1 + u32::try_from(url.filters().len()).unwrap_or(u32::MAX - 1))?;
        let registry = self.registry();
        let plugin = registry.plugin_with(url.scheme())?;
        let steps: Vec<Step<'_>> = url
            .filters()
            .iter()
            .map(|step| match step.name() {
                Some(name) => Ok(Step::Name(name)),
                None => Ok(Step::Filter(step, registry.filter_with(step.scheme())?)),
            })
            .collect::<Result<_, Error>>()?;
        // A device below a filter that only reads is not created, emptied or written. A tree below a name is not created or
        // emptied itself.
        let mode = |above: &[Step<'_>]| {
            let read_only = |step: &Step<'_>| matches!(step, Step::Filter(_, plugin) if plugin.manifest().below_read_only);
            if above.iter().any(read_only) {
                OpenMode::READ
            } else if above.iter().any(|step| matches!(step, Step::Name(_))) {
                options.create(false).truncate(false).replace(false).mode()
            } else {
                options.mode()
            }
        };
        let counting = self.statistics.as_ref();
        let opened = Arc::new(AtomicU32::new(0));
        let opener = Opener::for_plugin(self, plugin, depth, &opened)?;
        let below = Lower { object: opener.map(host_device), url: None };
        let (object, shown) = self.open_layer(plugin, url, mode(&steps), below)?;
        // Ordering: Relaxed. The plugin's call above has returned.
        let opened = opened.load(Ordering::Relaxed);
        let mut device =
            Device::new(shown, plugin.clone(), object, None, opened, self.runtime.clone(), counting)?;
        for (index, step) in steps.iter().enumerate() {
            let mode = mode(&steps[index + 1..]);
            device = match step {
                Step::Name(name) => device.open_with(name, OpenOptions::from_mode(mode))?,
                Step::Filter(filter, plugin) => {
                    let lower = Lower { object: Some(device.lend()), url: Some(device.url()) };
                    let (object, shown) = self.open_layer(plugin, filter, mode, lower)?;
                    let (plugin, runtime) = (Arc::clone(plugin), self.runtime.clone());
                    let below = device.clone();
                    let device = Device::new(shown, plugin, object, Some(device), 0, runtime, counting)?;
                    if let Err(error) = device.refuse_hidden_publish(&below) {
                        // Closing the layers removes their temporary files. This happens before the caller gets the error, since
                        // the caller may then end the process.
                        for layer in [device, below] {
                            let _ = layer.close(CLOSE_LIMIT);
                        }
                        return Err(error);
                    }
                    device
                }
            };
        }
        tracing::debug!(device = device.url(), "opened");
        Ok(device)
    }

    fn open_layer(
        &self,
        plugin: &Plugin,
        url: &Url,
        mode: OpenMode,
        below: Lower<'_>,
    ) -> Result<(DeviceObj, String), Error> {
        let id = &plugin.manifest().id;
        self.runtime.watchdog().call("open", id, || plugin.open(url, mode, below))
    }

    /// Opens a device that is opened again when its plugin is replaced; see [`rescan`](Self::rescan).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_live(&self, url: &str, options: OpenOptions) -> Result<LiveDevice, Error> {
        LiveDevice::open(self.clone(), url.parse()?, options)
    }

    /// Searches for plugins again; `true` if something has changed.
    ///
    /// A replaced file is a new plugin, also if the name is the same: devices that are opened from now on belong to the new
    /// plugin. Open devices stay with the old plugin until they are closed, and its library stays loaded; a [`LiveDevice`]
    /// changes over by itself. A plugin whose file has changed since it was examined is refused until the next rescan.
    pub fn rescan(&self) -> bool {
        let _one_at_a_time = self.known.rescan.lock().unwrap_or_else(PoisonError::into_inner);
        // Not under the lock of the registry: files are read, and the subscriber of the records may open a device.
        let Some(changed) = self.registry().scan_again() else { return false };
        *self.known.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        true
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.known.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Statistics of each device and each filter, in the order in which they were opened. Of closed devices, the last thousand
    /// are kept. Empty, unless the host was built with [`statistics`](HostBuilder::statistics).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// let host = pactio::Host::builder().statistics(true).build()?;
    /// let device = host.open("file:/data/image | cache")?;
    /// host.block_on(device.read::<u64>(0))?;
    /// for layer in host.statistics() {
    ///     println!("{}: {:?} {:?}", layer.url, layer.counted, layer.of_plugin);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn statistics(&self) -> Vec<DeviceStatistics> {
        self.statistics.as_ref().map_or(Vec::new(), |statistics| statistics.all())
    }

    /// The requests that devices have not answered yet, on each device and each filter, the oldest first: to find out which
    /// device a program waits for. Empty, unless the host was built with [`statistics`](HostBuilder::statistics).
    pub fn in_flight(&self) -> Vec<RequestInFlight> {
        self.statistics.as_ref().map_or(Vec::new(), |statistics| statistics.in_flight())
    }

    /// Every file that was found in the search paths, with its outcome.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.registry().candidates().to_vec()
    }

    /// The folders of the search that exist, but cannot be read, with the system's errors.
    pub fn unreadable_folders(&self) -> Vec<(PathBuf, std::io::Error)> {
        self.registry().unreadable_folders()
    }

    /// The plugins that were found, in the order of the search. Each is loaded when its first device is opened.
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.registry().plugins().cloned().collect()
    }

    /// The plugin that opens URLs with this scheme, or the filter with this name.
    ///
    /// # Errors
    ///
    /// If there is none; the message lists the schemes that exist and the folders that were searched.
    pub fn plugin_with_scheme(&self, scheme: &str) -> Result<Arc<Plugin>, Error> {
        self.registry().plugin_or_filter(scheme).cloned()
    }

    /// Runs a future to its end on this thread, and polls the drivers of the devices that the future uses.
    ///
    /// The future may borrow and need not be `Send`. This may be called on several threads at once.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        executor::block_on(future)
    }

    /// Runs a future on the host's worker threads. A panic in the future goes to the code that awaits the task.
    ///
    /// The threads end when the host and all its devices are gone. The drop of the last of these waits for tasks that are being
    /// polled at that time; unfinished tasks are dropped.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        self.runtime.spawn(future)
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("registry", &self.registry()).finish_non_exhaustive()
    }
}

impl HostBuilder {
    /// Adds a plugin that is linked into the program, such as `pactio_plugin_file::PLUGIN`. The linked plugin has precedence over
    /// plugins with the same schemes in files, and a file with its id is refused.
    ///
    /// A linked plugin works like a loaded one, through the same objects. It cannot be replaced while the program runs.
    #[must_use]
    pub fn plugin(mut self, plugin: LinkedPlugin) -> Self {
        self.linked.push(plugin);
        self
    }

    /// Adds a folder to search for plugins, before the default ones.
    #[must_use]
    pub fn search_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// Whether to search the default folders too: those in `PACTIO_PLUGIN_PATH`, `plugins` beside the program,
    /// `../lib/pactio/plugins` from there, `~/.local/lib/pactio/plugins`, and the same below `/usr/local/lib` and `/usr/lib`. In
    /// a build folder of cargo, `deps` too. The default is on.
    #[must_use]
    pub fn default_search_paths(mut self, on: bool) -> Self {
        self.default_folders = on;
        self
    }

    /// The file of profiles. A profile describes a device that `profile:name` opens:
    ///
    /// ```toml
    /// [assets]
    /// scheme = "memory"
    /// options = { size = "64MiB", fill = 1 }
    /// ```
    ///
    /// `profile:assets?fill=2` opens `memory:?size=64MiB&fill=2`. The default is the file that `PACTIO_PROFILES` names, or
    /// `pactio/profiles.toml` in the user's folder for configuration. The file is read when a profile is opened.
    #[must_use]
    pub fn profiles(mut self, file: impl Into<PathBuf>) -> Self {
        self.profiles = Some(file.into());
        self
    }

    /// Number of threads that run spawned tasks, at least one; drivers have a thread of their own. The default is
    /// the number of processors, but not more than four.
    #[must_use]
    pub fn worker_threads(mut self, count: usize) -> Self {
        self.worker_threads = Some(count);
        self
    }

    /// The time after which a call of a plugin is reported as hanging: opening, closing, a request, a poll of a driver, `info`,
    /// an extension, a cancellation, admission. The report is a record of level error, once per call; the device then fails new
    /// requests, see [`Device::health`]. The default is 5 seconds.
    #[must_use]
    pub fn hang_limit(mut self, limit: Duration) -> Self {
        self.hang_limit = limit;
        self
    }

    /// Whether requests, bytes, errors and times are counted on each device and each filter: see [`Host::statistics`]. The
    /// default is off, since counting costs about as much as a filter.
    #[must_use]
    pub fn statistics(mut self, on: bool) -> Self {
        self.statistics = on;
        self
    }

    /// Whether plugin files are loaded from sealed copies in memory. Then the bytes that run are those that were examined, also
    /// if the file is written meanwhile. If the system has no such copies, the file itself is loaded, unless it has changed
    /// since. The default is on.
    ///
    /// Debuggers find the symbols of a sealed copy while the process lives. Tools that look for the file afterwards, such as
    /// profilers, need `seal(false)`. Without sealed copies, writing to a loaded file crashes the process: replace the file by
    /// moving a new one over it. Without sealed copies, a plugin may also look for libraries relative to its own folder
    /// (`$ORIGIN`).
    #[must_use]
    pub fn seal(mut self, on: bool) -> Self {
        self.policy.seal = on;
        self
    }

    /// Whether a plugin file is loaded only if no user except root and the user of this process can write the file, its folder,
    /// or a folder further up. If this is off, a file is refused only if every user of the system can write the file or its
    /// folder. The default is off.
    #[must_use]
    pub fn strict_owners(mut self, on: bool) -> Self {
        self.policy.trust = if on { Trust::OwnerAndRoot } else { Trust::Any };
        self
    }

    /// Looks for plugins and starts the threads. No code of a plugin runs yet.
    ///
    /// A file that is refused is no error here: see [`Host::candidates`].
    ///
    /// # Errors
    ///
    /// If a thread cannot be started, or a [linked](Self::plugin) plugin cannot be used.
    pub fn build(self) -> Result<Host, Error> {
        let paths = if self.default_folders {
            SearchPaths::with_defaults(self.folders)
        } else {
            SearchPaths::only(self.folders)
        };
        let workers = self
            .worker_threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get().min(4)));
        Ok(Host {
            known: Arc::new(Plugins {
                registry: RwLock::new(Arc::new(Registry::scan(&self.linked, paths, self.policy)?)),
                rescan: Mutex::new(()),
            }),
            profiles: Arc::new(Profiles::new(self.profiles)),
            runtime: Runtime::start(workers, self.hang_limit)?,
            statistics: self.statistics.then(Arc::default),
        })
    }
}

impl pactio_sdk::BlockOn for Host {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        executor::block_on(future)
    }

    fn together<R>(&self, f: impl FnOnce(bool) -> R, _: pactio_sdk::io::Internal) -> R {
        executor::together(|| f(true))
    }
}
