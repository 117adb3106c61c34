//! The streams that the protocol runs on, unix sockets, TCP, and TLS over them; and the loop that drives a connection.
//!
//! ```text
//!  thread of a connection:  poll the task ──► pending ──► sleep until the socket is ready or the task is woken ──┐
//!                               ▲                                                                              │
//!                               └──────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection has a thread of its own, so that a request that is answered at once costs one read, one write and one sleep, and
//! no change of threads.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use futures_lite::{AsyncRead, AsyncWrite};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection of any kind.
pub(crate) type AnyStream = Box<dyn Stream>;

/// A socket of a client.
pub(crate) enum Client {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Client {
    /// Sets the socket up for a [`Socket`].
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(true),
            Self::Tcp(stream) => {
                // Replies are gathered already.
                stream.set_nodelay(true)?;
                // A client that vanished does not keep its connection for ever.
                rustix::net::sockopt::set_socket_keepalive(stream, true)?;
                stream.set_nonblocking(true)
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// The directions in which a task waits for its socket.
#[derive(Default)]
struct Waits {
    to_read: AtomicBool,
    to_write: AtomicBool,
    /// The last read took everything that had arrived: another one would only find that out.
    is_drained: AtomicBool,
}

/// A socket whose readiness the [`Loop`] waits for.
pub(crate) struct Socket {
    client: Arc<Client>,
    waits: Arc<Waits>,
}

impl Socket {
    /// Notes that the task waits, if the call would block.
    // Orderings: Relaxed. Only the thread of the connection uses the flags.
    fn ready<T>(waits: &AtomicBool, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                waits.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                waits.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.waits.is_drained.swap(false, Ordering::Relaxed) {
            self.waits.to_read.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        let result = match &*self.client {
            Client::Unix(stream) => (&mut &*stream).read(bytes),
            Client::Tcp(stream) => (&mut &*stream).read(bytes),
        };
        // The end is reported by the next read.
        let is_short = matches!(result, Ok(count) if count > 0 && count < bytes.len());
        self.waits.is_drained.store(is_short, Ordering::Relaxed);
        Self::ready(&self.waits.to_read, result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = match &*self.client {
            Client::Unix(stream) => (&mut &*stream).write(bytes),
            Client::Tcp(stream) => (&mut &*stream).write(bytes),
        };
        Self::ready(&self.waits.to_write, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &*self.client {
            Client::Unix(stream) => (&mut &*stream).write_vectored(slices),
            Client::Tcp(stream) => (&mut &*stream).write_vectored(slices),
        };
        Self::ready(&self.waits.to_write, result)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &*self.client {
            Client::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Client::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
        Poll::Ready(shut)
    }
}

/// Drives the task of a connection on this thread.
pub(crate) struct Loop {
    client: Arc<Client>,
    waits: Arc<Waits>,
    notify: Arc<Notify>,
    /// The other end of the socket that wakes this thread.
    woken: UnixStream,
}

/// Wakes the thread of a connection.
struct Notify {
    state: AtomicU8,
    wake: UnixStream,
}

const AWAKE: u8 = 0;
const NOTIFIED: u8 = 1;
const ASLEEP: u8 = 2;

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: AcqRel, with the exchange in `run`: the thread reads the effects of this caller, and this call reads ASLEEP.
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            // If the buffer is full, the thread is being woken.
            let _ = (&self.wake).write(&[1]);
        }
    }
}

impl Loop {
    /// A loop for a client, and the socket for its task.
    pub(crate) fn new(client: Client) -> io::Result<(Self, Socket)> {
        client.prepare()?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (client, waits) = (Arc::new(client), Arc::new(Waits::default()));
        let notify = Arc::new(Notify { state: AtomicU8::new(AWAKE), wake });
        let socket = Socket { client: client.clone(), waits: waits.clone() };
        Ok((Self { client, waits, notify, woken }, socket))
    }

    /// Runs a task to its end; `None` if that is not reached before `deadline`.
    pub(crate) fn run<T>(&self, task: impl Future<Output = T>, deadline: Option<Instant>) -> Option<T> {
        let mut task = pin!(task);
        let waker = Waker::from(self.notify.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            // Ordering: AcqRel. This overwrites the note of a wake; the poll sees all stores before that wake.
            self.notify.state.swap(AWAKE, Ordering::AcqRel);
            self.waits.to_read.store(false, Ordering::Relaxed);
            self.waits.to_write.store(false, Ordering::Relaxed);
            self.waits.is_drained.store(false, Ordering::Relaxed);
            if let Poll::Ready(output) = task.as_mut().poll(&mut cx) {
                return Some(output);
            }
            // Ordering: AcqRel, with the swap of a wake.
            let asleep =
                self.notify.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
            if asleep.is_ok() && !self.sleep(deadline) {
                return None;
            }
        }
    }

    /// Sleeps until the socket is ready or the task is woken; `false` if it is later than `deadline`.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        let mut wanted = PollFlags::empty();
        if self.waits.to_read.load(Ordering::Relaxed) {
            wanted |= PollFlags::IN;
        }
        if self.waits.to_write.load(Ordering::Relaxed) {
            wanted |= PollFlags::OUT;
        }
        let mut all = [
            PollFd::from_borrowed_fd(self.woken.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.client.as_fd(), wanted),
        ];
        // A socket that no direction is waited for would report its end again and again.
        let count = if wanted.is_empty() { 1 } else { 2 };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        // An interrupted call, or another failure, is a reason to poll the task.
        let _ = poll(&mut all[..count], left.as_ref());
        if !all[0].revents().is_empty() {
            let _ = (&self.woken).read(&mut [0; 64]);
        }
        true
    }
}
