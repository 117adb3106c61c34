//! Many (position, buffer) pairs as one request with one exact report.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use super::request::ask;
use super::{Admitted, Batch, PacketIo, Param, Submission, poll_admitted};
use crate::{
    ComplexPacket, DirectMemory, IoError, PacketBox, PacketBytes, PacketMut, PacketPerms, PacketStore, Read,
    ReadWrite, Report, VecPacket, Write,
};

/// Pairs of a parameter and a buffer that can be made into one request.
///
/// | pairs | copies | come back as |
/// |-------|--------|--------------|
/// | `Vec<(P, Vec<u8>)>` | none | the vectors, in order |
/// | `&mut [(P, &mut [u8])]`, to read | one, at the end | `()` |
/// | `&[(P, &[u8])]`, to write | one, at the start | `()` |
pub trait IntoVectored<Perms: PacketPerms, P> {
    /// Keeps the packet and the data that is needed to give the buffers back.
    type Store: PacketStore<Perms>;

    /// Makes the packet with the bytes of all buffers, one behind the other, and gives the parameter and the length of each part.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if memory cannot be allocated, [`IoError::TOO_LARGE`] if the sum of the lengths does not fit a
    /// `usize`.
    fn into_vectored(self) -> Result<(Self::Store, Parts<P>), IoError>;
}

/// The parameter and the length of each part of a request.
pub type Parts<P> = Vec<(P, usize)>;

/// Requests of many pairs, which are sent to the device in one call.
///
/// ```
/// use pactio_sdk::{BoundPacketView, IoError, PacketIo, VectoredIo, Write};
///
/// # struct Counting;
/// # impl PacketIo<Write, u64> for Counting {
/// #     fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
/// #         if position > 1000 { return view.error(IoError::END); }
/// #         let bytes: Vec<u8> = (0..view.len()).map(|i| (position as usize + i) as u8).collect();
/// #         view.transfer_data(&bytes).complete();
/// #     }
/// # }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #     match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
/// # }
/// # let device = Counting;
/// # block_on(async {
/// let (report, buffers) = device.vectored(vec![(10, vec![0; 4]), (5000, vec![0; 2]), (20, vec![0; 4])]).await?;
/// assert_eq!(buffers[0], [10, 11, 12, 13]);
/// assert_eq!(buffers[2], [20, 21, 22, 23]);
/// assert_eq!(report.to_string(), "8 of 10 bytes; 4..6: past the end of the device");
/// # Ok::<(), IoError>(())
/// # })?;
/// # Ok::<(), IoError>(())
/// ```
pub trait VectoredIo<Perms: PacketPerms, P: Param>: PacketIo<Perms, P> {
    /// Sends all pairs; gives one report over the bytes of all buffers, one behind the other, and the buffers.
    fn vectored<V: IntoVectored<Perms, P>>(&self, pairs: V) -> Vectored<&Self, Perms, P, V>
    where
        Self: Sized,
    {
        Vectored { device: self, stage: Stage::New(pairs) }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> VectoredIo<Perms, P> for D {}

/// The future of [`VectoredIo::vectored`].
#[must_use = "a request does nothing until it is polled"]
pub struct Vectored<D: PacketIo<Perms, P>, Perms: PacketPerms, P, V: IntoVectored<Perms, P>> {
    device: D,
    stage: Stage<Perms, P, V>,
}

enum Stage<Perms: PacketPerms, P, V: IntoVectored<Perms, P>> {
    New(V),
    /// The device is full.
    Waiting(V::Store, Parts<P>, Option<Admitted>),
    InFlight(V::Store),
    Finished,
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, V: IntoVectored<Perms, P>>
    Vectored<D, Perms, P, V>
{
    /// A request of `pairs` to `device`.
    pub fn new(device: D, pairs: V) -> Self {
        Self { device, stage: Stage::New(pairs) }
    }
}

/// Cuts the view into its parts and sends them in one call.
fn start<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param>(
    device: &D,
    store: &mut impl PacketStore<Perms>,
    parts: Parts<P>,
) -> Result<(), IoError> {
    let mut rest = store.packet_mut().bind()?;
    let mut queue = Vec::new();
    queue.try_reserve_exact(parts.len()).map_err(|_| IoError::OUT_OF_MEMORY)?;
    for (param, len) in parts {
        let (view, behind) = rest.split_at(len);
        rest = behind;
        if !param.reaches(len) {
            view.error(IoError::TOO_LARGE);
        } else if len > 0 {
            queue.push(Submission { param, view });
        }
    }
    drop(rest);
    device.send_batch(Batch::drain(&mut queue));
    Ok(())
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, V: IntoVectored<Perms, P>> Unpin
    for Vectored<D, Perms, P, V>
{
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, V: IntoVectored<Perms, P>> Future
    for Vectored<D, Perms, P, V>
{
    type Output = Result<(Report, <V::Store as PacketStore<Perms>>::Back), IoError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match core::mem::replace(&mut this.stage, Stage::Finished) {
                Stage::New(pairs) => {
                    let (store, parts) = pairs.into_vectored()?;
                    let sent = |(param, len): &&(P, usize)| *len > 0 && param.reaches(*len);
                    let bytes: usize = parts.iter().filter(sent).map(|(_, len)| len).sum();
                    let admission = if bytes > 0 { this.device.admit(bytes) } else { None };
                    this.stage = Stage::Waiting(store, parts, admission);
                }
                Stage::Waiting(mut store, parts, mut admission) => {
                    if poll_admitted(&mut admission, cx).is_pending() {
                        this.stage = Stage::Waiting(store, parts, admission);
                        return Poll::Pending;
                    }
                    start(&this.device, &mut store, parts)?;
                    this.stage = Stage::InFlight(store);
                }
                Stage::InFlight(mut store) => {
                    if store.packet_mut().poll_complete(cx).is_pending() {
                        this.stage = Stage::InFlight(store);
                        return Poll::Pending;
                    }
                    let report = store.packet().report();
                    return Poll::Ready(store.sync_back().map(|back| (report, back)));
                }
                Stage::Finished => panic!("a request was polled after it had finished"),
            }
        }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, V: IntoVectored<Perms, P>> Drop
    for Vectored<D, Perms, P, V>
{
    fn drop(&mut self) {
        if let Stage::InFlight(store) = &self.stage {
            ask(&self.device, store);
        }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, V: IntoVectored<Perms, P>> fmt::Debug
    for Vectored<D, Perms, P, V>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vectored request")
    }
}

/// Several vectors as the bytes of one packet.
#[derive(Debug)]
pub struct Scattered {
    buffers: Vec<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    /// The end of the buffer in the packet.
    end: usize,
    /// The raw parts of the vector.
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: the value owns the vectors, and shares nothing but plain numbers.
unsafe impl Send for Scattered {}
// SAFETY: a shared `Scattered` shares nothing but plain numbers; the bytes are only reached through views.
unsafe impl Sync for Scattered {}

impl Scattered {
    fn new(vectors: impl Iterator<Item = Vec<u8>>) -> Result<Self, IoError> {
        let mut this = Self { buffers: Vec::new() };
        let mut end = 0usize;
        for vector in vectors {
            end = end.checked_add(vector.len()).ok_or(IoError::TOO_LARGE)?;
            let mut vector = core::mem::ManuallyDrop::new(vector);
            // SAFETY: the pointer of a vector is not null.
            let start = unsafe { NonNull::new_unchecked(vector.as_mut_ptr()) };
            this.buffers.push(Buffer { end, start, len: vector.len(), capacity: vector.capacity() });
        }
        Ok(this)
    }

    fn into_vectors(mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.buffers).into_iter().map(Buffer::into_vector).collect()
    }
}

impl Buffer {
    fn into_vector(self) -> Vec<u8> {
        // SAFETY: the parts come from a vector that was not dropped, and `self` ends. Initialised bytes stay initialised.
        unsafe { Vec::from_raw_parts(self.start.as_ptr(), self.len, self.capacity) }
    }
}

impl Drop for Scattered {
    fn drop(&mut self) {
        self.buffers.drain(..).for_each(|buffer| drop(buffer.into_vector()));
    }
}

impl Scattered {
    fn total(&self) -> usize {
        self.buffers.last().map_or(0, |buffer| buffer.end)
    }

    /// # Safety
    ///
    /// As for [`PacketBytes::alloc`].
    unsafe fn memory(&self, range: Range<usize>) -> Option<DirectMemory> {
        let index = self.buffers.partition_point(|buffer| buffer.end <= range.start);
        let buffer = self.buffers.get(index)?;
        // Views are cut where buffers end, so this refuses only ranges that were not cut in this module.
        if range.end > buffer.end {
            return None;
        }
        let offset = range.start - (buffer.end - buffer.len);
        // SAFETY: the range lies within the buffer, is initialised, and belongs to the caller; the buffer lives as long as
        // `self`.
        Some(unsafe { DirectMemory::new(buffer.start.add(offset)) })
    }
}

macro_rules! scattered {
    ($($perms:ident $data:ty),*) => {
        $(
            impl PacketBytes<$perms> for Scattered {
                fn len(&self) -> usize {
                    self.total()
                }

                fn transfer(&self, _: usize, _: $data) -> Result<(), IoError> {
                    Err(IoError::UNSUPPORTED)
                }

                unsafe fn alloc(&self, range: Range<usize>) -> Option<DirectMemory> {
                    // SAFETY: the caller alone uses the range until it is answered: it holds the view of the range.
                    unsafe { self.memory(range) }
                }
            }
        )*
    };
}

scattered!(Read &mut [u8], Write &[u8], ReadWrite &mut [u8]);

/// The packet of several vectors.
#[allow(missing_debug_implementations)]
pub struct Vectors<Perms: PacketPerms>(ComplexPacket<Scattered, Perms>);

impl<Perms: PacketPerms> PacketStore<Perms> for Vectors<Perms>
where
    Scattered: PacketBytes<Perms>,
{
    type Back = Vec<Vec<u8>>;

    fn packet(&self) -> &PacketBox<Perms> {
        self.0.packet()
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        self.0.packet_mut()
    }

    fn sync_back(self) -> Result<Vec<Vec<u8>>, IoError> {
        self.0.sync_back().map(Scattered::into_vectors)
    }
}

impl<Perms: PacketPerms, P: Param> IntoVectored<Perms, P> for Vec<(P, Vec<u8>)>
where
    Scattered: PacketBytes<Perms>,
{
    type Store = Vectors<Perms>;

    fn into_vectored(self) -> Result<(Self::Store, Parts<P>), IoError> {
        let parts = self.iter().map(|(param, buffer)| (param.clone(), buffer.len())).collect();
        let scattered = Scattered::new(self.into_iter().map(|(_, buffer)| buffer))?;
        Ok((Vectors(ComplexPacket::new(scattered)?), parts))
    }
}

/// A read request with bytes that are copied into several borrowed buffers.
#[derive(Debug)]
pub struct CopiedApart<'a, 'b, P> {
    packet: PacketBox<Write>,
    pairs: &'a mut [(P, &'b mut [u8])],
}

impl<P: Param> PacketStore<Write> for CopiedApart<'_, '_, P> {
    type Back = ();

    fn packet(&self) -> &PacketBox<Write> {
        &self.packet
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Write> {
        PacketMut::new(&mut self.packet)
    }

    fn sync_back(self) -> Result<(), IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        self.packet.copy_done_apart(self.pairs.iter_mut().map(|(_, buffer)| &mut **buffer));
        Ok(())
    }
}

fn total(lens: impl Iterator<Item = usize>) -> Result<usize, IoError> {
    let mut total = 0usize;
    for len in lens {
        total = total.checked_add(len).ok_or(IoError::TOO_LARGE)?;
    }
    Ok(total)
}

impl<'a, 'b, P: Param> IntoVectored<Write, P> for &'a mut [(P, &'b mut [u8])] {
    type Store = CopiedApart<'a, 'b, P>;

    fn into_vectored(self) -> Result<(Self::Store, Parts<P>), IoError> {
        let parts: Vec<_> = self.iter().map(|(param, buffer)| (param.clone(), buffer.len())).collect();
        let packet = PacketBox::new_buf(total(parts.iter().map(|(_, len)| *len))?)?;
        Ok((CopiedApart { packet, pairs: self }, parts))
    }
}

/// A write request of several buffers that were copied into one.
#[derive(Debug)]
pub struct Joined(VecPacket<Read>);

impl PacketStore<Read> for Joined {
    type Back = ();

    fn packet(&self) -> &PacketBox<Read> {
        self.0.packet()
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Read> {
        self.0.packet_mut()
    }

    fn sync_back(self) -> Result<(), IoError> {
        self.0.sync_back().map(drop)
    }
}

impl<P: Param> IntoVectored<Read, P> for &[(P, &[u8])] {
    type Store = Joined;

    fn into_vectored(self) -> Result<(Self::Store, Parts<P>), IoError> {
        let parts: Vec<_> = self.iter().map(|(param, buffer)| (param.clone(), buffer.len())).collect();
        let mut all = Vec::new();
        all.try_reserve_exact(total(parts.iter().map(|(_, len)| *len))?)
            .map_err(|_| IoError::OUT_OF_MEMORY)?;
        self.iter().for_each(|(_, buffer)| all.extend_from_slice(buffer));
        Ok((Joined(VecPacket::new(all)?), parts))
    }
}
