//! The health of a device, and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactio_sdk::{Code, IoError};

use super::{Device, Shared};
use crate::executor::UnderWay;
use crate::{Error, ErrorKind};

/// The health of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// No failure of the device is known.
    Alive,
    /// Its driver has not come back from a poll for this time: requests are not answered.
    Hangs(Duration),
    /// Its driver has ended: requests fail.
    Ended,
    /// Its code panicked: requests fail.
    Panicked,
}

/// The state of a device's life that is not in its driver.
pub(super) struct Life {
    /// The poll of its driver that was found hanging last: how long after `opened` it began, and its number.
    hangs: Mutex<Option<(Duration, u32)>>,
    opened: Instant,
    /// The device's object is being dropped.
    ends: AtomicBool,
    /// One sender for each caller that waits for the end of the device. The end drops the senders.
    waiting: Mutex<Vec<Sender<()>>>,
}

impl Life {
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self {
            hangs: Mutex::default(),
            opened: Instant::now(),
            ends: AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    pub(super) fn hangs(&self, time: Duration, poll: u32) {
        *self.lock() = Some((self.opened.elapsed().saturating_sub(time), poll));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Duration, u32)>> {
        self.hangs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

/// Dropped after the device's object. The drop tells the callers that wait for the end of the device.
pub(super) struct End {
    life: Arc<Life>,
    /// The call that drops the object.
    call: Option<UnderWay>,
}

impl End {
    pub(super) fn of(life: Arc<Life>) -> Self {
        Self { life, call: None }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.life.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Shared {
    /// The fields of the value are dropped next, and the object first.
    fn drop(&mut self) {
        // Ordering: Relaxed. The flag only selects a message.
        self.life.ends.store(true, Ordering::Relaxed);
        self.end.call = Some(self.runtime.watchdog().begin("close", &self.url));
        if let Some(counted) = self.counted.get() {
            counted.end(self);
        }
    }
}

impl Device {
    /// The health of the device and of the devices below it, as far as the host can know: the first of them that is not
    /// [`Alive`](Health::Alive) counts, from the top. A driver that has been in one poll for longer than the
    /// [limit](crate::HostBuilder::hang_limit) hangs.
    pub fn health(&self) -> Health {
        let own = match &self.0.inner {
            Some(inner) => inner.own_health(),
            None => self.own_health(),
        };
        match &self.0.below {
            Some(below) if own == Health::Alive => below.health(),
            _ => own,
        }
    }

    /// The health of the device without the devices below.
    fn own_health(&self) -> Health {
        let told = *self.0.life.lock();
        if let Some(driver) = &self.0.driver {
            if driver.has_panicked() {
                return Health::Panicked;
            }
            if let (Some((since, told)), Some(current)) = (told, driver.current_poll())
                && told == current
            {
                return Health::Hangs(self.0.life.opened.elapsed().saturating_sub(since));
            }
        }
        match self.0.remote.out_of_use() {
            Some(IoError::DRIVER_ENDED) => Health::Ended,
            Some(_) => Health::Panicked,
            None if self.0.driver.as_ref().is_some_and(|driver| driver.is_ended()) => Health::Ended,
            None => Health::Alive,
        }
    }

    /// Closes the device, and waits for that at most for `limit`. Requests in flight fail, unless the device answers them before.
    /// The plugin may take longer than the limit to close the device, on a thread of its own.
    ///
    /// Dropping the last handle closes it as well, and waits as long as the plugin takes.
    ///
    /// # Errors
    ///
    /// If the device is not closed by then, because there are other handles or the plugin takes longer.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), pactio::Error> {
    /// # let host = pactio::Host::builder().build()?;
    /// let device = host.open("file:/data/image")?;
    /// device.close(Duration::from_secs(1))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(self, limit: Duration) -> Result<(), Error> {
        let (url, life) = (self.url().to_owned(), self.0.life.clone());
        // The plugin's own device ends after the host's layer in front of it.
        let ended = self.0.inner.as_ref().map_or_else(|| life.end(), |inner| inner.0.life.end());
        let failed = |what: String| {
            Error::new(
                ErrorKind::Io(Code::TIMED_OUT),
                format!("'{url}' is not closed after {limit:?}: {what}"),
            )
        };
        let closing = std::thread::Builder::new().name("pactio-close".to_owned()).spawn(move || drop(self));
        closing.map_err(|error| {
            Error::new(ErrorKind::Setup, format!("cannot start a thread that closes '{url}': {error}"))
                .with_system(error)
        })?;
        match ended.recv_timeout(limit) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            // Ordering: Relaxed. The flag only selects a message.
            Err(RecvTimeoutError::Timeout) if life.ends.load(Ordering::Relaxed) => {
                Err(failed("its plugin has not come back from closing it".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(failed("it is still used, by other handles or a filter on it".to_owned()))
            }
        }
    }
}
