//! Memory that a device was told of beforehand.

use std::sync::{Arc, Weak};

use pactio_sdk::{Capability, IoError, MemoryRange, Registration};

use super::{Device, Shared};
use crate::{BufferPool, Error, ErrorKind};

impl Device {
    /// Tells the device of the memory of a pool, if that makes it faster: a kernel's ring then looks its pages up once, and not
    /// for each request. With filters on it, the first device below that makes something of it is told. `false` means that there
    /// was nothing to do. It counts until the pool or the device is dropped. The system may bound how much memory can be registered
    /// (`ulimit -l`).
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
    /// If the system refuses it. The pool can be used all the same.
    pub fn register(&self, pool: &BufferPool) -> Result<bool, Error> {
        let Some(device) = self.registrar() else { return Ok(false) };
        if !pool.is_registered(&device.0) {
            let (start, len, _) = pool.memory();
            // SAFETY: the pool has it forgotten before it frees its memory.
            let memory = unsafe { MemoryRange::new(start, len) };
            let registration = device.0.remote.extension::<dyn Registration>();
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

    /// The device that memory is registered with: this one's plugin's, or that of one below it. Filters have no part in it, so that
    /// none can be gone when the memory is to be forgotten.
    fn registrar(&self) -> Option<&Self> {
        match &self.0.inner {
            Some(inner) => inner.registrar(),
            None if self.0.remote.has(Capability::MEMORY) => Some(self),
            None => self.0.below.as_ref()?.registrar(),
        }
    }
}

/// Memory that a device knows, until this is dropped.
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
        // A device that is gone gets no requests any more, in whatever memory.
        if let Some(device) = self.device.upgrade()
            && let Some(registration) = device.remote.extension::<dyn Registration>()
        {
            registration.forget(self.number);
        }
    }
}
