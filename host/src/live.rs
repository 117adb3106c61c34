//! A device that outlives its plugin's file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use crate::plugin::Registry;
use crate::{Device, Error, Host, OpenOptions, Url};

/// A device that is opened again when one of its plugins was replaced and the host has [seen](Host::rescan) it.
///
/// ```text
///   device() ──► old ── requests under way ──► answered by the old plugin ──► closed with the last handle
///       │ rescan finds a new file
///       └──────► new ── requests from now on
/// ```
///
/// No request is lost, as none moves. Bytes that only the device has, such as those of `memory:`, are gone with the old one.
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
    /// One at a time opens it again.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct Current {
    device: Device,
    /// What it was opened with, or was found to be the same in.
    registry: Arc<Registry>,
}

impl LiveDevice {
    pub(crate) fn open(host: Host, url: Url, options: OpenOptions) -> Result<Self, Error> {
        let registry = host.registry();
        let device = host.open_url(&url, options)?;
        // Opened again, it is the same device: nothing is made or emptied.
        let options = options.create(false).truncate(false);
        Ok(Self {
            host,
            url,
            options,
            current: RwLock::new(Current { device, registry }),
            changing: Mutex::new(()),
        })
    }

    /// The device as it is now: to be taken anew for each request, or for some that belong together.
    ///
    /// If the new plugin cannot open it, it stays the old one, and a record says why. While another thread opens it anew, it is
    /// the old one, too.
    ///
    /// Hold the handle for as long as its requests are under way: with its last handle the old device is closed, and what
    /// it has not answered fails. What an old device holds back is flushed through its own handle, not through the new one.
    pub fn device(&self) -> Device {
        let known = self.host.registry();
        let Current { device, registry } = self.current();
        if Arc::ptr_eq(&registry, &known) {
            return device;
        }
        // Opening runs the plugin's code, for as long as it likes. Until then the old device is as good as it was.
        let _one_at_a_time = match self.changing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return device,
        };
        // Somebody else may have been faster.
        let known = self.host.registry();
        let Current { device, registry } = self.current();
        if Arc::ptr_eq(&registry, &known) {
            return device;
        }
        let device = if stays(&device, &known) {
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
        // Not under the lock: if it is the last handle, the old plugin closes its device.
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

/// None of the plugins of a stack was replaced.
fn stays(device: &Device, registry: &Registry) -> bool {
    let known = registry.plugins().any(|plugin| std::ptr::eq(&raw const **plugin, device.plugin()));
    known && device.below().is_none_or(|below| stays(below, registry))
}

impl fmt::Debug for LiveDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveDevice").field("url", &self.url).finish_non_exhaustive()
    }
}
