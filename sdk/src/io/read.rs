//! The usual ways to read.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytemuck::{AnyBitPattern, Pod};

use super::request::Stored;
use super::{Exact, Io, PacketIo, Param, Request, Whole};
use crate::packet::MAX_ON_STACK;
use crate::{
    Code, Filling, FullPacket, IntoPacket, IoError, PacketBox, PacketMut, PacketStore, Unfilled, VecPacket,
    Write,
};

/// Methods to read from a value that answers read requests.
pub trait IoRead<P: Param>: PacketIo<Write, P> {
    /// Reads as many bytes as possible into `buffer`; gives the report and the buffer.
    fn read_raw<B: IntoPacket<Write>>(&self, param: P, buffer: B) -> Io<&Self, Write, P, B>
    where
        Self: Sized,
    {
        Io::new(self, param, buffer)
    }

    /// Reads all of `buffer`, or fails with the error at the lowest offset that was not read.
    #[inline]
    fn read_all<B: IntoPacket<Write>>(&self, param: P, buffer: B) -> Exact<&Self, Write, P, B>
    where
        Self: Sized,
    {
        Exact::new(self, param, buffer)
    }

    /// Reads a value of plain data into `value`, which stays unchanged if any byte is missing.
    fn read_into<'a, T: Pod>(&self, param: P, value: &'a mut T) -> Exact<&Self, Write, P, &'a mut [u8]>
    where
        Self: Sized,
    {
        Exact::new(self, param, bytemuck::bytes_of_mut(value))
    }

    /// Reads a value of plain data, in the byte order of this machine.
    #[inline]
    fn read<T: AnyBitPattern>(&self, param: P) -> ReadValue<&Self, P, T>
    where
        Self: Sized,
    {
        ReadValue::of_value(self, param)
    }

    /// Reads until the device reports its end, and appends to `all`; gives the number of bytes.
    ///
    /// # Errors
    ///
    /// Any error except [`Code::END`], and except [`Code::SHORT`] of a request that read at least one byte. The bytes that were
    /// read before the error are in `all`.
    fn read_to_end<'v>(&self, param: P, all: &'v mut Vec<u8>) -> ReadToEnd<'v, &Self, P>
    where
        Self: Sized,
    {
        ReadToEnd { device: self, param, before: all.len(), all, chunk: FIRST_CHUNK, request: None }
    }
}

impl<D: PacketIo<Write, P>, P: Param> IoRead<P> for D {}

/// The buffer of a read of one value, for which a packet is made when the request is submitted.
#[derive(Debug)]
pub struct Fresh<T>(PhantomData<T>);

impl<T: AnyBitPattern> IntoPacket<Write> for Fresh<T> {
    type Store = FreshPacket<T>;

    #[inline]
    fn into_packet(self) -> Result<Self::Store, IoError> {
        FullPacket::new_uninit().map(FreshPacket)
    }

    #[inline(always)]
    fn fill_now(self, fill: impl FnOnce(&mut Unfilled<'_>)) -> Result<T, Self> {
        if size_of::<T>() > MAX_ON_STACK {
            return Err(self);
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the value's memory is used by nothing else.
        let mut filling = unsafe { Filling::from_raw(value.as_mut_ptr().cast(), size_of::<T>()) };
        fill(&mut filling.unfilled());
        // SAFETY: all bytes of the value are filled, and any bytes are a valid `T`.
        if filling.is_full() { Ok(unsafe { value.assume_init() }) } else { Err(self) }
    }
}

/// The packet of a read of one value; the value comes back.
#[derive(Debug)]
pub struct FreshPacket<T>(FullPacket<T, Write>);

impl<T: AnyBitPattern> PacketStore<Write> for FreshPacket<T> {
    type Back = T;

    #[inline]
    fn packet(&self) -> &PacketBox<Write> {
        self.0.packet()
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Write> {
        self.0.packet_mut()
    }

    #[inline]
    fn sync_back(self) -> Result<T, IoError> {
        self.0.get()
    }
}

/// The future of [`IoRead::read`]; `F` is as in [`Request`].
pub type ReadValue<D, P, T, F = Whole> = Request<D, Write, P, Fresh<T>, F>;

impl<D: PacketIo<Write, P>, P: Param, T: AnyBitPattern, F> ReadValue<D, P, T, F> {
    /// A request for a value at `param` of `device`.
    #[inline]
    pub fn of_value(device: D, param: P) -> Self {
        Self::new(device, param, Fresh(PhantomData))
    }
}

/// Length of the first request of a read to the end, and the largest length, in bytes.
const FIRST_CHUNK: usize = 1 << 14;
const LARGEST_CHUNK: usize = 1 << 22;

/// The future of [`IoRead::read_to_end`].
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct ReadToEnd<'v, D: PacketIo<Write, P>, P> {
    device: D,
    param: P,
    all: &'v mut Vec<u8>,
    /// Length of `all` at the beginning.
    before: usize,
    chunk: usize,
    request: Option<Request<D, Write, P, VecPacket<Write>, Stored>>,
}

impl<D: PacketIo<Write, P> + Clone + Unpin, P: Param> Future for ReadToEnd<'_, D, P> {
    type Output = Result<usize, IoError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let request = match &mut this.request {
                Some(request) => request,
                None => {
                    let packet = VecPacket::with_len(this.chunk)?;
                    this.request.insert(Request::new(this.device.clone(), this.param.clone(), packet))
                }
            };
            let mut store = ready!(Pin::new(request).poll(cx))?;
            this.request = None;
            let failed = store.report().min_error();
            let part = store.take_done()?;
            this.param = this.param.advanced(part.len());
            if this.all.capacity() == 0 {
                *this.all = part;
            } else {
                this.all.try_reserve(part.len()).map_err(|_| IoError::OUT_OF_MEMORY)?;
                this.all.extend_from_slice(&part);
            }
            match failed {
                None => this.chunk = (this.chunk * 2).min(LARGEST_CHUNK),
                Some((_, error)) if error.code() == Code::END => {
                    return Poll::Ready(Ok(this.all.len() - this.before));
                }
                // A device may give fewer bytes than were requested and continue in the next request.
                Some((done, error)) if done > 0 && error.code() == Code::SHORT => {}
                Some((_, error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}
