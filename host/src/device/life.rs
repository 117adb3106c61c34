//! How a device is, and how it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactio_sdk::{Code, IoError};

use super::{Device, Shared};
use crate::executor::UnderWay;
use crate::{Error, ErrorKind};

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// As it should be, as far as is known.
    Alive,
    /// Its driver has not come back from a poll for so long: requests are not answered.
    Hangs(Duration),
    /// Its driver has ended: requests fail.
    Ended,
    /// Its code panicked: requests fail.
    Panicked,
}

/// What is known of a device's life beside its driver.
pub(super) struct Life {
    /// The poll of its driver that was found hanging last: how long after `opened` it began, and its number.
    hangs: Mutex<Option<(Duration, u32)>>,
    opened: Instant,
    /// Its object is being dropped.
    ends: AtomicBool,
    /// Whoever waits for its end, each with something to be dropped then.
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

/// Dropped when the device's object was: those who wait for that are told.
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
    /// Its fields are dropped next, and the object first.
    fn drop(&mut self) {
        // Ordering: Relaxed. It is only for a message.
        self.life.ends.store(true, Ordering::Relaxed);
        self.end.call = Some(self.runtime.watchdog().begin("close", &self.url));
        if let Some(counted) = self.counted.get() {
            counted.end(self);
        }
    }
}

impl Device {
    /// How the device and the devices below it are, as far as the host can know: the first of them that is not
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

    /// The same without the devices below.
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

    /// Closes the device, and waits for that at most so long. Requests under way fail, unless the device answers them before;
    /// what the plugin does while it closes may go on longer than the limit, on a thread of its own.
    ///
    /// Dropping the last handle closes it as well, and waits as long as the plugin takes.
    ///
    /// # Errors
    ///
    /// If it is not closed by then: since there are other handles, or since the plugin takes longer.
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
        let ended = life.end();
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
            // Ordering: Relaxed. It is only for a message.
            Err(RecvTimeoutError::Timeout) if life.ends.load(Ordering::Relaxed) => {
                Err(failed("its plugin has not come back from closing it".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(failed("it is still used, by other handles or a filter on it".to_owned()))
            }
        }
    }
}
