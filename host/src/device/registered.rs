//! Memory that is registered with a device.

use std::sync::{Arc, Weak};

use pactio_sdk::{Capability, IoError, MemoryRange, Registration};

use super::current::Entered;
use super::{Device, Shared};
use crate::executor::Call;
use crate::{BufferPool, Error, ErrorKind};

impl Device {
    /// Registers the memory of a pool with the device, if that makes requests faster: a kernel's ring then looks its pages up
    /// once, and not for each request. If the device is a filter that does not support registration, the memory is registered
    /// with the first device below it that does. `false` means that no device supports it. The registration holds until the pool
    /// or the device is dropped. The system may bound how much memory can be registered (`ulimit -l`).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// use pactio::BufferPool;
    ///
    /// let device = host.open("file:/data/image")?;
    /// let pool = BufferPool::new(64, 64 << 10)?;
    /// device.register(&pool)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses the registration. The pool can be used all the same.
    pub fn register(&self, pool: &BufferPool) -> Result<bool, Error> {
        let Some(device) = self.registrar() else { return Ok(false) };
        if !pool.is_registered(&device.0) {
            let (start, len, _) = pool.memory();
            // SAFETY: the pool drops its registrations, which forgets the memory, before it frees the memory.
            let memory = unsafe { MemoryRange::new(start, len) };
            let registration = device.0.remote.extension::<dyn Registration>();
            let _entered = Entered::new(&device.0, Call::Extension);
            let registered =
                registration.map_or(Err(IoError::UNSUPPORTED), |registration| registration.register(memory));
            let number = registered.map_err(|error| {
                let text = format!("cannot register {len} bytes with '{}': {error}", device.url());
                let hint =
                    "the pool can be used all the same; `ulimit -l` says how much memory may be locked";
                Error::new(ErrorKind::Io(error.code()), text).with_hint(hint)
            })?;
            pool.keep(Registered { device: Arc::downgrade(&device.0), number });
        }
        Ok(true)
    }

    /// The device that memory is registered with: the plugin's own device, or that of a device below. The host calls this device
    /// directly and not through filters, since a filter may be closed before the memory is forgotten.
    fn registrar(&self) -> Option<&Self> {
        match &self.0.below {
            _ if self.0.remote.has(Capability::MEMORY) => Some(self),
            Some(below) => below.registrar(),
            None => None,
        }
    }
}

/// A registration of memory with a device; dropping it forgets the memory.
pub(crate) struct Registered {
    device: Weak<Shared>,
    number: u64,
}

impl Registered {
    pub(crate) fn is_alive(&self) -> bool {
        self.device.strong_count() > 0
    }

    pub(crate) fn is_of(&self, device: &Arc<Shared>) -> bool {
        std::ptr::eq(self.device.as_ptr(), Arc::as_ptr(device))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A closed device needs no call, since it gets no more requests.
        if let Some(device) = self.device.upgrade()
            && let Some(registration) = device.remote.extension::<dyn Registration>()
        {
            let _entered = Entered::new(&device, Call::Extension);
            registration.forget(self.number);
        }
    }
}
