//! Opening as a request: a thread that may block opens the device, and the caller waits for a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::Receiver;
use async_io::Timer;
use futures_lite::future::or;
use pactio_sdk::{Code, Name};

use super::{Device, OpenOptions};
use crate::executor::slow_calls;
use crate::{Error, ErrorKind};

type Opened = Result<Device, Error>;

/// A device that is being opened: a future. Opening begins with the call that gives this value, and not with the first poll.
///
/// If this value is dropped, or the [limit](OpenOptions::within) is over, the device is not opened if that has not begun, and
/// otherwise closed as soon as the plugin has opened it. None of this blocks the caller's thread.
#[must_use = "the device is closed if nothing waits for it"]
pub struct Opening(Pin<Box<dyn Future<Output = Opened> + Send>>);

impl Opening {
    /// Opens a device on a thread that may block. `operation` completes "cannot ..." in errors; `limit` bounds the wait of the
    /// caller, not the plugin.
    pub(crate) fn begin(
        operation: String,
        limit: Option<Duration>,
        open: impl FnOnce() -> Opened + Send + 'static,
    ) -> Self {
        let (sender, receiver) = async_channel::bounded(1);
        // Its drop closes a device that comes too late.
        let waits = Waits(receiver);
        let begun = slow_calls::perform(move || {
            // If the caller has stopped waiting before this thread was free, the device is not opened.
            if !sender.is_closed() {
                // If nothing waits any more, the device comes back and is closed here.
                let _ = sender.try_send(open());
            }
        });
        if let Err(error) = begun {
            let text = format!("cannot {operation}: no thread can be started: {error}");
            return Self::failed(Error::new(ErrorKind::Setup, text).with_system(error));
        }
        let timer = limit.map(|limit| (limit, Timer::after(limit)));
        Self(Box::pin(async move {
            let opened = async {
                waits.0.recv().await.unwrap_or_else(|_| {
                    let text = format!("cannot {operation}: a panic ended it");
                    Err(Error::new(ErrorKind::Open(Code::PANICKED), text))
                })
            };
            let Some((limit, timer)) = timer else { return opened.await };
            let late = async {
                timer.await;
                let text = format!("cannot {operation}: it is not open after {limit:?}");
                Err(Error::new(ErrorKind::Open(Code::TIMED_OUT), text)
                    .with_hint("the plugin may still be opening it; the device is closed then"))
            };
            or(opened, late).await
        }))
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self(Box::pin(async { Err(error) }))
    }
}

impl Future for Opening {
    type Output = Opened;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Opened> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

/// Waits for a device. A device that was opened in vain is closed on a thread that may block.
struct Waits(Receiver<Opened>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Ok(device)) = self.0.try_recv() {
            // Without a thread, the device is closed here, when the call is dropped.
            let _ = slow_calls::perform(move || drop(device));
        }
    }
}

impl Device {
    /// Opens a name in a tree with `options`, and does not block: see [`Host::opening`](crate::Host::opening).
    ///
    /// ```no_run
    /// # async fn run(archive: &pactio::Device) -> Result<(), pactio::Error> {
    /// let options = pactio::OpenOptions::new().read(true);
    /// // Both at once.
    /// let (map, sound) = (archive.opening("e1.bsp", options), archive.opening("e1.ogg", options));
    /// let (map, sound) = (map.await?, sound.await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The future gives the errors of [`open`](Self::open).
    pub fn opening(&self, name: impl AsRef<[u8]>, options: OpenOptions) -> Opening {
        // Without the limit, since `open_with` would begin another opening for it.
        let (tree, name, plain) = (self.clone(), name.as_ref().to_owned(), options.without_limit());
        let operation = format!("open '{}' in '{}'", Name::show(&name), self.url());
        Opening::begin(operation, options.limit(), move || tree.open_with(name, plain))
    }
}
