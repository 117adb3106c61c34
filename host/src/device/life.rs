//! The health of a device, and its end.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::or;
use pactio_sdk::{Code, IoError};

use super::current::Entered;
use super::{Device, Shared};
use crate::executor::{Call, Process, may_close_here, must_not_wait, slow_calls};
use crate::{Error, ErrorKind};

/// The health of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// No failure of the device is known.
    Alive,
    /// A thread has not come back from a call of the device: new requests fail until it does.
    Hangs {
        /// The call: `a request`, `poll_driver`, `info`, `an extension`, `cancel` or `poll_admit`.
        call: &'static str,
        /// The duration of the call until now.
        time: Duration,
    },
    /// Its driver has ended: requests fail.
    Ended,
    /// Its code panicked: requests fail.
    Panicked,
}

/// The state of a device's life that is not in its driver.
pub(super) struct Life {
    /// Number of calls that hang. An atomic, so that each request can check it.
    hanging: AtomicU32,
    /// The last of these calls, and when it began.
    hangs: Mutex<Option<(Call, Instant)>>,
    /// The device's object is being dropped.
    ends: AtomicBool,
    /// The plugin panicked when it closed the device.
    panicked_at_end: AtomicBool,
    /// The process that opened the device.
    process: Process,
    /// One sender for each caller that waits for the end of the device. The end drops the senders, which tells the callers.
    waiting: Mutex<Vec<Box<dyn Send>>>,
}

impl Life {
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self {
            hanging: AtomicU32::new(0),
            hangs: Mutex::default(),
            ends: AtomicBool::new(false),
            panicked_at_end: AtomicBool::new(false),
            process: Process::this(),
            waiting: Mutex::default(),
        })
    }

    pub(super) fn hangs(&self, call: Call, time: Duration) {
        *self.lock() = Instant::now().checked_sub(time).map(|since| (call, since));
        // Ordering: Relaxed. A request that comes at the same time may still be sent.
        self.hanging.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn came_back(&self) {
        self.hanging.fetch_sub(1, Ordering::Relaxed);
    }

    /// The error of a new request, if it fails: a call hangs, and the next one may hang as well; or this process was forked off,
    /// and has none of the threads.
    #[inline(always)]
    pub(super) fn refusal(&self) -> Option<IoError> {
        if self.process.was_forked() {
            return Some(IoError::UNSUPPORTED);
        }
        let hanging = self.hanging.load(Ordering::Relaxed) > 0;
        hanging.then_some(IoError::from_code(Code::TIMED_OUT))
    }

    /// Whether this process was forked off from the one that opened the device.
    pub(super) fn was_forked(&self) -> bool {
        self.process.was_forked()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Call, Instant)>> {
        self.hangs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_end(&self, sender: impl Send + 'static) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(sender));
    }
}

impl Drop for Shared {
    /// Closes the object, and then drops the devices below.
    fn drop(&mut self) {
        // The plugin's last figures are read while its object exists.
        if let Some(counted) = self.counted.get() {
            counted.end(self);
        }
        // Ordering: Relaxed. The flag only selects a message.
        self.life.ends.store(true, Ordering::Relaxed);
        // SAFETY: the object is taken once, here, and not used afterwards: nothing refers to the device any more.
        let remote = ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut self.remote) });
        let (life, url, runtime) = (self.life.clone(), std::mem::take(&mut self.url), self.runtime.clone());
        let plugin = self.plugin.clone();
        let close = move || {
            // The watchdog reports the call if it takes too long.
            let under_way = runtime.watchdog().begin("close", &url);
            if !ManuallyDrop::into_inner(remote).close() {
                // Ordering: Relaxed. The drop of the senders below orders the store before the reader's load.
                life.panicked_at_end.store(true, Ordering::Relaxed);
                let plugin = plugin.manifest().id.as_str();
                tracing::error!(device = url, plugin, "the plugin panicked when it closed the device");
            }
            drop(under_way);
            // Drops the senders, which tells the callers that wait for the end.
            life.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        };
        if may_close_here() { close() } else { close_elsewhere(close, self.runtime.limit()) }
    }
}

/// Closes an object on another thread. The plugin may wait for the end of this thread, so this thread waits at most for
/// `limit`. If there is no thread, the object stays: `close` keeps it when it is dropped without a call.
fn close_elsewhere(close: impl FnOnce() + Send + 'static, limit: Duration) {
    let (ends, ended) = channel::<()>();
    let close = move || {
        close();
        drop(ends);
    };
    if let Err(error) = slow_calls::perform(close) {
        return tracing::error!("a device stays open: no thread can be started to close it: {error}");
    }
    // A thread of a host, or one inside a plugin, must not wait for another thread.
    if !must_not_wait() {
        // No message is sent: this returns when `ends` is dropped, or after `limit`.
        let _ = ended.recv_timeout(limit);
    }
}

impl Device {
    /// The health of the device and of the devices below it, as far as the host can know: from the top, the first health that is
    /// not [`Alive`](Health::Alive). A device hangs if a thread has been in a call of it for longer than the
    /// [limit](crate::HostBuilder::hang_limit).
    pub fn health(&self) -> Health {
        let own = self.own_health();
        match &self.0.below {
            Some(below) if own == Health::Alive => below.health(),
            _ => own,
        }
    }

    /// The health of the device without the devices below.
    fn own_health(&self) -> Health {
        if self.0.driver.as_ref().is_some_and(|driver| driver.has_panicked()) {
            return Health::Panicked;
        }
        if !self.0.life.was_forked()
            && self.0.life.refusal().is_some()
            && let Some((call, since)) = *self.0.life.lock()
        {
            return Health::Hangs { call: call.name(), time: since.elapsed() };
        }
        let _entered = Entered::new(&self.0, Call::Info);
        match self.0.remote.out_of_use() {
            Some(IoError::DRIVER_ENDED) => Health::Ended,
            Some(_) => Health::Panicked,
            None if self.0.driver.as_ref().is_some_and(|driver| driver.is_ended()) => Health::Ended,
            None => Health::Alive,
        }
    }

    /// Closes the device, and waits at most for `limit`. Requests in flight fail, unless the device answers them before. The
    /// plugin may take longer than the limit to close the device, on a thread of the host: see [`Resources`](crate::Resources).
    ///
    /// Dropping the last handle also closes the device, and waits as long as the plugin takes. If a thread of the host polls the
    /// device's driver at that moment, that thread closes the device after the poll. The drop then does not wait for the closing,
    /// but the end of the host does.
    ///
    /// # Errors
    ///
    /// If the device is not closed within `limit`, because there are other handles or the plugin takes longer. If the plugin
    /// panicked while it closed the device: bytes that the plugin had not stored yet may be lost.
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
        let (sender, ended) = channel::<()>();
        let closing = self.begin_close(sender, limit)?;
        closing.result(ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout))
    }

    /// Closes the device like [`close`](Self::close), and does not block: the result is a future. The device is closed also if
    /// the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn closing(self, limit: Duration) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (sender, ended) = async_channel::bounded::<()>(1);
        let closing = self.begin_close(sender, limit);
        let timer = Timer::after(limit);
        async move {
            let ended = async {
                // No message is sent: the end drops the sender.
                let _ = ended.recv().await;
                true
            };
            let late = async {
                timer.await;
                false
            };
            closing?.result(or(ended, late).await)
        }
    }

    /// Drops this handle on a thread that may block. The end of the plugin's device drops `sender`.
    fn begin_close(self, sender: impl Send + 'static, limit: Duration) -> Result<Closing, Error> {
        let (url, life) = (self.url().to_owned(), self.0.life.clone());
        life.at_end(sender);
        slow_calls::perform(move || drop(self)).map_err(|error| {
            Error::new(ErrorKind::Setup, format!("cannot start a thread that closes '{url}': {error}"))
                .with_system(error)
        })?;
        Ok(Closing { url, life, limit })
    }
}

/// A device that is being closed.
struct Closing {
    url: String,
    life: Arc<Life>,
    limit: Duration,
}

impl Closing {
    fn result(&self, has_ended: bool) -> Result<(), Error> {
        let (url, limit) = (&self.url, self.limit);
        // Ordering: Relaxed. The flag was stored before the sender was dropped.
        if has_ended && self.life.panicked_at_end.load(Ordering::Relaxed) {
            let text = format!("'{url}' is closed, but its plugin panicked in it");
            return Err(Error::new(ErrorKind::Io(Code::PANICKED), text));
        }
        if has_ended {
            return Ok(());
        }
        // Ordering: Relaxed. The flag only selects a message.
        let what = match self.life.ends.load(Ordering::Relaxed) {
            true => "its plugin has not come back from closing it",
            false => "it is still used, by other handles or a filter on it",
        };
        Err(Error::new(
            ErrorKind::Io(Code::TIMED_OUT),
            format!("'{url}' is not closed after {limit:?}: {what}"),
        ))
    }
}
