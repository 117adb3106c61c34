//! A device that outlives its plugin's file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use crate::plugin::Registry;
use crate::{Capability, Device, Error, Host, OpenOptions, Url};

/// A device that is opened again when one of its plugins was replaced and the host has [found](Host::rescan) the replacement.
///
/// ```text
///   device() ──► old ── requests under way ──► answered by the old plugin ──► closed with the last handle
///       │ rescan finds a new file
///       └──────► new ── requests from now on
/// ```
///
/// No request is lost, since each request stays with its device. Bytes that only the device holds, such as those of `memory:`,
/// are lost with the old device.
///
/// ```no_run
/// # fn main() -> Result<(), pactio::Error> {
/// # use pactio::OpenOptions;
/// let host = pactio::Host::builder().build()?;
/// let live = host.open_live("file:/data/image", OpenOptions::new().read(true))?;
/// // The plugin's file was replaced.
/// host.rescan();
/// let first: u64 = host.block_on(live.device().read(0))?;
/// # Ok(())
/// # }
/// ```
pub struct LiveDevice {
    host: Host,
    url: Url,
    options: OpenOptions,
    current: RwLock<Current>,
    /// Held while a thread opens the device again: one at a time.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct Current {
    device: Device,
    /// The registry that the device was opened with, or last compared with.
    registry: Arc<Registry>,
}

impl LiveDevice {
    pub(crate) fn open(host: Host, url: Url, options: OpenOptions) -> Result<Self, Error> {
        let registry = host.registry();
        let device = host.open_url(&url, options)?;
        // A later opening gives the same device, so it must not create or empty anything.
        let options = options.create(false).truncate(false).replace(false);
        Ok(Self {
            host,
            url,
            options,
            current: RwLock::new(Current { device, registry }),
            changing: Mutex::new(()),
        })
    }

    /// The current device. Call this anew for each request, or for each group of requests that belong together.
    ///
    /// If the new plugin cannot open the device, the old device stays, and a record states the reason. While another thread opens
    /// the device again, this method also gives the old device.
    ///
    /// Hold the handle for as long as its requests are under way: the old device is closed with its last handle, and requests
    /// that it has not answered fail. Writes that an old device holds back are flushed through its own handle, not through the
    /// new one.
    pub fn device(&self) -> Device {
        let known = self.host.registry();
        let Current { device, registry } = self.current();
        if Arc::ptr_eq(&registry, &known) {
            return device;
        }
        // Opening runs the plugin's code, which may take any time. Other threads use the old device meanwhile.
        let _one_at_a_time = match self.changing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return device,
        };
        // Another thread may have been faster.
        let known = self.host.registry();
        let Current { device, registry } = self.current();
        if Arc::ptr_eq(&registry, &known) {
            return device;
        }
        // Bytes that are not published are in this device alone, so a device that publishes stays.
        let device = if stays(&device, &known) || device.capabilities().has(Capability::PUBLISH) {
            device
        } else {
            match self.host.open_url(&self.url, self.options) {
                Ok(new) => {
                    tracing::info!(device = new.url(), "changed over to the new plugin");
                    new
                }
                Err(error) => {
                    tracing::error!(device = device.url(), "stays with the old plugin: {error}");
                    device
                }
            }
        };
        let current = Current { device: device.clone(), registry: known };
        let old = std::mem::replace(&mut *self.write(), current);
        // Not under the lock: if `old` is the last handle, the old plugin closes its device.
        drop(old);
        device
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether none of the plugins of a stack was replaced.
fn stays(device: &Device, registry: &Registry) -> bool {
    let known = registry.plugins().any(|plugin| std::ptr::eq(&raw const **plugin, device.plugin()));
    known && device.below().is_none_or(|below| stays(below, registry))
}

impl fmt::Debug for LiveDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveDevice").field("url", &self.url).finish_non_exhaustive()
    }
}
