//! Requests with a time limit, which holds also if the plugin hangs.

use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use pactio_sdk::{Code, IntoPacket};

use super::Device;
use super::request::Back;
use crate::{Error, ErrorKind, ReadRequest, Task, WriteRequest};

impl Device {
    /// Reads exactly as many bytes as the buffer has, at most for `limit`. When the time is over, the caller gets an error with
    /// [`Code::TIMED_OUT`], even if the plugin has not come back. The request is cancelled, and keeps its buffer.
    ///
    /// The request enters the plugin on a thread of the host, which costs a few microseconds. If the plugin blocks that thread,
    /// another one takes its place.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
    /// let bytes = device.read_within(0, vec![0; 4096], Duration::from_millis(100)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read_exact_at`](Self::read_exact_at), or if the time is over.
    pub async fn read_within<B>(
        &self,
        position: u64,
        buffer: B,
        limit: Duration,
    ) -> Result<Back<ReadRequest, B>, Error>
    where
        B: IntoPacket<ReadRequest> + Send + 'static,
        B::Store: Send,
        Back<ReadRequest, B>: Send + 'static,
    {
        let device = self.clone();
        let read = async move { device.read_exact_at(position, buffer).await };
        self.in_time("read", position, self.0.runtime.spawn(read), limit).await
    }

    /// Writes all bytes of the buffer, at most for `limit`: see [`read_within`](Self::read_within). When the time is over, it is
    /// unknown which of the bytes were written.
    ///
    /// # Errors
    ///
    /// As [`write_all_at`](Self::write_all_at), or if the time is over.
    pub async fn write_within<B>(
        &self,
        position: u64,
        buffer: B,
        limit: Duration,
    ) -> Result<Back<WriteRequest, B>, Error>
    where
        B: IntoPacket<WriteRequest> + Send + 'static,
        B::Store: Send,
        Back<WriteRequest, B>: Send + 'static,
    {
        let device = self.clone();
        let write = async move { device.write_all_at(position, buffer).await };
        self.in_time("write", position, self.0.runtime.spawn(write), limit).await
    }

    /// Waits for a request that runs as a task of the host, at most for `limit`. When the time is over, the task is dropped,
    /// which cancels the request. `what` is the verb of the error's text.
    async fn in_time<T>(
        &self,
        what: &str,
        position: u64,
        request: Task<Result<T, Error>>,
        limit: Duration,
    ) -> Result<T, Error> {
        or(request, async {
            Timer::after(limit).await;
            let (url, plugin) = (self.url(), &self.plugin().manifest().id);
            let text = format!("cannot {what} at {position:#x} of '{url}' (plugin '{plugin}'): it is not done after {limit:?}");
            Err(Error::new(ErrorKind::Io(Code::TIMED_OUT), text))
        })
        .await
    }
}
