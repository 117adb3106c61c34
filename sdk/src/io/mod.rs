//! Doing I/O: from a buffer and a position to a future.
//!
//! ```text
//!   buffer ── IntoPacket ──► packet ── bind ──► view ── PacketIo::send_io ──► device
//!   result ◄── sync_back ─── packet ◄── last answer ◄─────────────────────────┘
//! ```
//!
//! A type that answers views implements [`PacketIo`]. All other requests are built on it: [`PacketIoExt`] and [`StreamIoExt`] for
//! any request, [`IoRead`] and [`IoWrite`] for the usual ones. All of them are futures that submit at their first poll; dropping
//! one detaches its request and asks for cancellation.

#[cfg(feature = "std")]
mod admission;
#[cfg(feature = "plugin")]
mod at_hand;
mod batch;
#[cfg(feature = "std")]
mod blocking;
#[cfg(feature = "std")]
mod budget;
mod ext;
mod read;
mod request;
#[cfg(feature = "std")]
mod scope;
#[cfg(feature = "std")]
mod seekable;
mod vectored;
mod write;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::{BoundPacketView, Cause, IoError, PacketPerms, RequestId, Unfilled};

#[cfg(feature = "std")]
pub use admission::AdmissionQueue;
#[cfg(feature = "plugin")]
pub use at_hand::ReadNowGate;
pub use batch::{Batch, Submission};
#[cfg(feature = "std")]
pub use blocking::{BlockOn, BlockingIo};
#[cfg(feature = "std")]
pub use budget::give_way_here;
pub use ext::{IoStream, PacketIoExt, StreamIoExt, StreamRead, StreamWrite};
pub use read::{Fresh, FreshPacket, IoRead, ReadToEnd, ReadValue};
pub use request::{Exact, Finish, Incomplete, Io, Partial, Request, Whole, whole};
#[cfg(feature = "std")]
pub use scope::{Scope, Scoped, scope};
#[cfg(feature = "std")]
pub use seekable::{Seekable, Size};
pub use vectored::{IntoVectored, Parts, Vectored, VectoredIo};
pub use write::{IoExchange, IoWrite, Value, ValuePacket};

/// The destination of a view: a position, [`NoPos`], or a request type of a device's own.
pub trait Param: Clone + Unpin + 'static {
    /// `true` if `len` bytes from this destination on can be expressed. Other requests fail with [`IoError::TOO_LARGE`].
    fn reaches(&self, len: usize) -> bool {
        let _ = len;
        true
    }

    /// The destination of the byte that is `len` bytes further.
    fn advanced(&self, len: usize) -> Self;
}

/// A position in bytes from the start of the device.
impl Param for u64 {
    #[inline]
    fn reaches(&self, len: usize) -> bool {
        self.checked_add(len as u64).is_some()
    }

    #[inline]
    fn advanced(&self, len: usize) -> Self {
        self.saturating_add(len as u64)
    }
}

/// No position: the next bytes of a stream, such as a pipe or a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct NoPos;

impl Param for NoPos {
    fn advanced(&self, _: usize) -> Self {
        Self
    }
}

/// The one entry of I/O: takes over the duty to answer views.
///
/// The methods do not block, and may be called from any thread and any number of threads at once.
///
/// ```
/// use pactio_sdk::{BoundPacketView, IoError, IoRead, PacketIo, Write};
///
/// /// A device that is a string.
/// struct Text(&'static str);
///
/// impl PacketIo<Write, u64> for Text {
///     fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
///         let position = usize::try_from(position).unwrap_or(usize::MAX);
///         view.transfer_data(self.0.as_bytes().get(position..).unwrap_or(&[])).complete();
///     }
/// }
///
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #     match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
/// # }
/// block_on(async {
///     let mut word = [0; 4];
///     Text("some text").read_all(5, &mut word).await?;
///     assert_eq!(&word, b"text");
///     assert_eq!(Text("some text").read::<[u8; 4]>(6).await, Err(IoError::END));
///     Ok::<(), IoError>(())
/// })?;
/// # Ok::<(), IoError>(())
/// ```
pub trait PacketIo<Perms: PacketPerms, P = u64> {
    /// Hands a view over.
    fn send_io(&self, param: P, view: BoundPacketView<Perms>);

    /// Hands many views over in one call.
    fn send_batch(&self, batch: Batch<'_, Perms, P>) {
        batch.for_each(|(param, view)| self.send_io(param, view));
    }

    /// Hands a view over on behalf of the task that is polled with `cx`. For the host, which sends the requests of a task
    /// together.
    #[doc(hidden)]
    #[inline]
    fn submit(&self, param: P, view: BoundPacketView<Perms>, cx: &mut Context<'_>, _: Internal) -> Submitted {
        let _ = cx;
        self.send_io(param, view);
        Submitted::Sent
    }

    /// Whether reads are worth an attempt with [`read_now`](Self::read_now).
    #[doc(hidden)]
    #[inline(always)]
    fn reads_now(&self, _: Internal) -> bool {
        false
    }

    /// Fills `into` with the bytes at a parameter, at once, or leaves some of `into` unfilled: for devices that have the bytes at
    /// hand. Called for reads only.
    #[doc(hidden)]
    #[inline(always)]
    fn read_now(&self, param: P, into: &mut Unfilled<'_>, _: Internal) {
        let _ = (param, into);
    }

    /// Sends all views that are queued, because a request is polled again before it is complete.
    #[doc(hidden)]
    #[cold]
    fn send_deferred(&self, _: Internal) {}

    /// Asks whether a request of `bytes` bytes, or a batch of `bytes` bytes together, may be submitted (rule P20). `None`: the
    /// caller submits it now. Otherwise the caller submits it in the poll in which the future is ready.
    #[inline]
    fn admit(&self, bytes: usize) -> Option<Admitted> {
        let _ = bytes;
        None
    }

    /// Reports that the requester has given up a request (rule P21). An implementation may ignore the call and answer later.
    #[inline]
    fn cancel(&self, request: RequestId) {
        let _ = request;
    }

    /// The future that publishes the written bytes: see `Publish`. `None` if other readers see written bytes at once.
    fn publication(&self) -> Option<Publication> {
        None
    }
}

/// A future that publishes a device at its first poll, and is ready when that was done or has failed.
pub type Publication = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>>;

/// A future that is ready when the device takes the request.
pub type Admitted = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets only this crate call the methods that only the host implements.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Internal(());

/// The state of a view that was handed over for a task.
#[doc(hidden)]
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The view was sent to the device.
    Sent,
    /// The view is queued, and sent before this thread polls the task again. This thread polls the task again in any case, so the
    /// task needs no wake.
    Deferred,
    /// The view is queued, and sent when this request or another of its queue is polled again. One of these requests was woken
    /// for that. The task must be woken when the request is complete.
    Queued,
}

/// Implements [`PacketIo`] for pointers to a type that implements it.
macro_rules! pointer {
    ($($type:ty),*) => {
        $(
            impl<T: PacketIo<Perms, P> + ?Sized, Perms: PacketPerms, P> PacketIo<Perms, P> for $type {
                #[inline(always)]
                fn send_io(&self, param: P, view: BoundPacketView<Perms>) {
                    (**self).send_io(param, view);
                }

                #[inline(always)]
                fn send_batch(&self, batch: Batch<'_, Perms, P>) {
                    (**self).send_batch(batch);
                }

                #[inline(always)]
                fn submit(
                    &self,
                    param: P,
                    view: BoundPacketView<Perms>,
                    cx: &mut Context<'_>,
                    internal: Internal,
                ) -> Submitted {
                    (**self).submit(param, view, cx, internal)
                }

                #[inline(always)]
                fn reads_now(&self, internal: Internal) -> bool {
                    (**self).reads_now(internal)
                }

                #[inline(always)]
                fn read_now(&self, param: P, into: &mut Unfilled<'_>, internal: Internal) {
                    (**self).read_now(param, into, internal);
                }

                #[inline]
                fn send_deferred(&self, internal: Internal) {
                    (**self).send_deferred(internal);
                }

                #[inline(always)]
                fn admit(&self, bytes: usize) -> Option<Admitted> {
                    (**self).admit(bytes)
                }

                #[inline]
                fn cancel(&self, request: RequestId) {
                    (**self).cancel(request);
                }

                fn publication(&self) -> Option<Publication> {
                    (**self).publication()
                }
            }
        )*
    };
}

pointer!(&T, Arc<T>, Box<T>);

/// Waits for the admission of a request.
fn poll_admitted(admission: &mut Option<Admitted>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(future) = admission {
        core::task::ready!(future.as_mut().poll(cx));
        *admission = None;
    }
    Poll::Ready(())
}

/// Asks for admission of a request, unless it will not be sent: it is empty, or its range cannot be expressed.
#[inline(always)]
fn admit<D: PacketIo<Perms, P> + ?Sized, Perms: PacketPerms, P: Param>(
    device: &D,
    param: &P,
    len: usize,
) -> Option<Admitted> {
    if len > 0 && param.reaches(len) { device.admit(len) } else { None }
}

/// Sends a view at once, unless its range cannot be expressed or is empty.
#[inline]
fn send_now<D: PacketIo<Perms, P> + ?Sized, Perms: PacketPerms, P: Param>(
    device: &D,
    param: P,
    view: BoundPacketView<Perms>,
) {
    if view.is_empty() || !param.reaches(view.len()) {
        refuse(view);
    } else {
        device.send_io(param, view);
    }
}

/// Sends a view for a task, unless its range cannot be expressed or is empty.
#[inline(always)]
fn send<D: PacketIo<Perms, P> + ?Sized, Perms: PacketPerms, P: Param>(
    device: &D,
    param: P,
    view: BoundPacketView<Perms>,
    cx: &mut Context<'_>,
) -> Submitted {
    if view.is_empty() || !param.reaches(view.len()) {
        refuse(view);
        Submitted::Sent
    } else {
        device.submit(param, view, cx, Internal(()))
    }
}

/// Fails a view that is not sent. If the view is empty, no byte fails.
#[cold]
#[inline(never)]
fn refuse<Perms: PacketPerms>(view: BoundPacketView<Perms>) {
    view.error(IoError::TOO_LARGE);
}
