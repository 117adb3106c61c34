//! Many requests in flight over borrowed memory, without a copy, in the manner of `std::thread::scope`.

use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::task::{Context, Poll, Waker};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::blocking::wait_for;
use super::{BlockOn, Internal, PacketIo, Param, admit, send, send_now};
use crate::{IoError, PacketPerms, PacketStore, Read, RefPacket, Report, Write};

/// Calls `f` with a scope in which requests may use all memory that outlives the call. The call returns or unwinds only after all
/// requests are complete, even if `f` drops or forgets their handles. So it is sound to lend memory (rule P1).
///
/// `waiter` is the host or the device that waits.
///
/// ```
/// # use pactio_sdk::{BlockOn, BoundPacketView, IoError, PacketIo, Write, scope};
/// # struct Ones;
/// # impl PacketIo<Write, u64> for Ones {
/// #     fn send_io(&self, _: u64, view: BoundPacketView<Write>) { view.transfer_data(&[1; 64]).complete() }
/// # }
/// # impl BlockOn for Ones {
/// #     fn block_on<F: Future>(&self, future: F) -> F::Output {
/// #         let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #         match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
/// #     }
/// # }
/// # let device = Ones;
/// let (mut index, mut texture) = ([0; 16], [0; 64]);
/// let size = scope(&device, |scope| {
///     let first = scope.read(&device, 0, &mut index);
///     scope.read(&device, 4096, &mut texture); // both are in flight
///     first.wait().map(|index| index.len()) // the rest is waited for at the end
/// })?;
/// assert_eq!((size, texture), (16, [1; 64]));
/// # Ok::<(), IoError>(())
/// ```
///
/// Memory that does not outlive the call cannot be lent:
///
/// ```compile_fail,E0597
/// # use pactio_sdk::{BlockOn, PacketIo, Write, scope};
/// fn lend_too_short(device: &(impl BlockOn + PacketIo<Write, u64>)) {
///     scope(device, |scope| {
///         let mut buffer = [0; 64];
///         let _ = scope.read(device, 0, &mut buffer);
///     });
/// }
/// ```
pub fn scope<'env, W: BlockOn + ?Sized, R>(
    waiter: &'env W,
    f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env, W>) -> R,
) -> R {
    let run = |defers| {
        let requests = RefCell::default();
        let scope = Scope { waiter, requests, defers, _scope: PhantomData, _env: PhantomData };
        let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
        scope.wait_for_all();
        result
    };
    let result = waiter.together(run, Internal(()));
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Makes requests over borrowed memory; see [`scope`].
pub struct Scope<'scope, 'env: 'scope, W: ?Sized> {
    waiter: &'env W,
    requests: RefCell<Requests>,
    /// Requests may be queued: the waiter sends them.
    defers: bool,
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

/// The packets of a scope. The scope keeps the packets, since a handle may be forgotten; the drop waits for all of them. The
/// lifetime of the packets is erased: the real lifetime is that of the scope.
#[derive(Default)]
struct Requests {
    slots: Vec<Option<Lent>>,
    free: Vec<usize>,
}

enum Lent {
    Read(RefPacket<'static, Write>),
    Write(RefPacket<'static, Read>),
}

impl Lent {
    fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Read(packet) => packet.packet_mut().poll_complete(cx),
            Self::Write(packet) => packet.packet_mut().poll_complete(cx),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Read(packet) => packet.packet().is_complete(),
            Self::Write(packet) => packet.packet().is_complete(),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Read(packet) => packet.packet().report(),
            Self::Write(packet) => packet.packet().report(),
        }
    }
}

impl<'scope, 'env, W: BlockOn + ?Sized> Scope<'scope, 'env, W> {
    /// Reads into `buffer` at `param` of `device`. Waits while the device is full.
    pub fn read<D: PacketIo<Write, P>, P: Param>(
        &'scope self,
        device: &D,
        param: P,
        buffer: &'scope mut [u8],
    ) -> Scoped<'scope, 'env, W, &'scope mut [u8]> {
        let (start, len) = (NonNull::from(&mut *buffer).cast::<u8>(), buffer.len());
        // SAFETY: the borrow lasts for the scope, which keeps the packet and ends only when the packet is complete.
        let packet = unsafe { RefPacket::for_read(core::slice::from_raw_parts_mut(start.as_ptr(), len)) };
        let request = packet.map(|packet| self.submit(device, param, packet, Lent::Read));
        Scoped { scope: self, request, buffer: (start, len), _buffer: PhantomData }
    }

    /// Writes `buffer` to `param` of `device`. Waits while the device is full.
    pub fn write<D: PacketIo<Read, P>, P: Param>(
        &'scope self,
        device: &D,
        param: P,
        buffer: &'scope [u8],
    ) -> Scoped<'scope, 'env, W, &'scope [u8]> {
        let (start, len) = (NonNull::from(buffer).cast::<u8>(), buffer.len());
        // SAFETY: the borrow lasts for the scope, which keeps the packet and ends only when the packet is complete.
        let packet = unsafe { RefPacket::for_write(core::slice::from_raw_parts(start.as_ptr(), len)) };
        let request = packet.map(|packet| self.submit(device, param, packet, Lent::Write));
        Scoped { scope: self, request, buffer: (start, len), _buffer: PhantomData }
    }

    fn submit<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param>(
        &self,
        device: &D,
        param: P,
        mut packet: RefPacket<'static, Perms>,
        lent: fn(RefPacket<'static, Perms>) -> Lent,
    ) -> usize {
        if let Some(admission) = admit(device, &param, packet.packet().len()) {
            self.waiter.block_on(admission);
        }
        let view = packet.packet_mut().bind().expect("a packet that was just made is idle");
        // The scope keeps the packet before the device gets the view, since the device might panic.
        let index = self.requests.borrow_mut().insert(lent(packet));
        if self.defers {
            // The waiter polls the packet in any case.
            let _ = send(device, param, view, &mut Context::from_waker(Waker::noop()));
        } else {
            send_now(device, param, view);
        }
        index
    }

    fn wait_for(&self, index: usize) -> Report {
        self.waiter.block_on(poll_fn(|cx| self.requests.borrow_mut().poll(index, cx)));
        self.requests.borrow_mut().remove(index)
    }

    fn wait_for_all(&self) {
        let len = self.requests.borrow().slots.len();
        for index in 0..len {
            self.waiter.block_on(poll_fn(|cx| self.requests.borrow_mut().poll(index, cx)));
        }
    }
}

impl Requests {
    fn insert(&mut self, request: Lent) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.slots[index] = Some(request);
                index
            }
            None => {
                self.slots.push(Some(request));
                self.slots.len() - 1
            }
        }
    }

    fn poll(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.slots[index].as_mut().map_or(Poll::Ready(()), |request| request.poll_complete(cx))
    }

    fn remove(&mut self, index: usize) -> Report {
        self.free.push(index);
        self.slots[index].take().expect("a handle waits once").report()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // Everything is complete, unless the waiter panicked.
        wait_for(|| self.slots.iter().flatten().all(Lent::is_complete));
    }
}

impl<W: ?Sized> fmt::Debug for Scope<'_, '_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.requests.borrow();
        f.debug_struct("Scope").field("requests", &(requests.slots.len() - requests.free.len())).finish()
    }
}

/// A request of a [`scope`]. The caller need not wait for it: the scope waits at its end.
pub struct Scoped<'scope, 'env, W: ?Sized, B> {
    scope: &'scope Scope<'scope, 'env, W>,
    request: Result<usize, IoError>,
    buffer: (NonNull<u8>, usize),
    _buffer: PhantomData<B>,
}

impl<'scope, W: BlockOn + ?Sized> Scoped<'scope, '_, W, &'scope mut [u8]> {
    /// Waits until all of the buffer was read, and gives the buffer back.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not read.
    pub fn wait(self) -> Result<&'scope mut [u8], IoError> {
        let (report, buffer) = self.wait_report()?;
        report.err_any().map(|()| buffer)
    }

    /// Waits until the request is complete, and gives the report and the buffer.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the request could not be made.
    pub fn wait_report(self) -> Result<(Report, &'scope mut [u8]), IoError> {
        let report = self.scope.wait_for(self.request?);
        let (start, len) = self.buffer;
        // SAFETY: start and length are those of the slice that was lent for `'scope`, and its packet is complete and gone.
        Ok((report, unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) }))
    }
}

impl<'scope, W: BlockOn + ?Sized> Scoped<'scope, '_, W, &'scope [u8]> {
    /// Waits until all of the buffer was written.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not written.
    pub fn wait(self) -> Result<(), IoError> {
        self.wait_report()?.err_any()
    }

    /// Waits until the request is complete, and gives the report.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the request could not be made.
    pub fn wait_report(self) -> Result<Report, IoError> {
        Ok(self.scope.wait_for(self.request?))
    }
}

impl<W: ?Sized, B> fmt::Debug for Scoped<'_, '_, W, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").field("request", &self.request).finish_non_exhaustive()
    }
}
