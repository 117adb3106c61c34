//! The usual ways to write.

use bytemuck::NoUninit;

use super::{Exact, Io, PacketIo, Param};
use crate::{FullPacket, IntoPacket, IoError, PacketBox, PacketMut, PacketStore, Read, ReadWrite};

/// Methods to write to a value that answers write requests.
pub trait IoWrite<P: Param>: PacketIo<Read, P> {
    /// Writes as many bytes of `buffer` as possible; gives the report and the buffer.
    fn write_raw<B: IntoPacket<Read>>(&self, param: P, buffer: B) -> Io<&Self, Read, P, B>
    where
        Self: Sized,
    {
        Io::new(self, param, buffer)
    }

    /// Writes all of `buffer`, or fails with the error at the lowest offset that was not written.
    #[inline]
    fn write_all<B: IntoPacket<Read>>(&self, param: P, buffer: B) -> Exact<&Self, Read, P, B>
    where
        Self: Sized,
    {
        Exact::new(self, param, buffer)
    }

    /// Writes a value of plain data, in the byte order of this machine. Types with padding do not compile (rule P17):
    ///
    /// ```compile_fail,E0277
    /// # use pactio_sdk::{IoWrite, PacketIo, Read};
    /// #[derive(Clone, Copy)]
    /// #[repr(C)]
    /// struct Padded(u8, u32);
    ///
    /// async fn write(device: &impl PacketIo<Read, u64>) {
    ///     let _ = device.write(0, &Padded(1, 2)).await;
    /// }
    /// ```
    #[inline]
    fn write<T: NoUninit>(&self, param: P, value: &T) -> Exact<&Self, Read, P, Value<T>>
    where
        Self: Sized,
    {
        Exact::new(self, param, Value(*value))
    }
}

impl<D: PacketIo<Read, P>, P: Param> IoWrite<P> for D {}

/// Methods to exchange with a value that answers exchanges: the device's bytes and the buffer's change places.
pub trait IoExchange<P: Param>: PacketIo<ReadWrite, P> {
    /// Exchanges as many bytes of `buffer` as possible; gives the report and the buffer.
    fn exchange_raw<B: IntoPacket<ReadWrite>>(&self, param: P, buffer: B) -> Io<&Self, ReadWrite, P, B>
    where
        Self: Sized,
    {
        Io::new(self, param, buffer)
    }

    /// Exchanges all of `buffer`, or fails with the error at the lowest offset that was not exchanged.
    fn exchange_all<B: IntoPacket<ReadWrite>>(&self, param: P, buffer: B) -> Exact<&Self, ReadWrite, P, B>
    where
        Self: Sized,
    {
        Exact::new(self, param, buffer)
    }
}

impl<D: PacketIo<ReadWrite, P>, P: Param> IoExchange<P> for D {}

/// A plain value that is made into a packet when the request is submitted.
#[derive(Clone, Copy, Debug)]
pub struct Value<T>(pub T);

impl<T: NoUninit> IntoPacket<Read> for Value<T> {
    type Store = ValuePacket<T>;

    #[inline]
    fn into_packet(self) -> Result<Self::Store, IoError> {
        FullPacket::new(self.0).map(ValuePacket)
    }
}

/// The packet of a write of one value.
#[derive(Debug)]
pub struct ValuePacket<T>(FullPacket<T, Read>);

impl<T> PacketStore<Read> for ValuePacket<T> {
    type Back = ();

    #[inline]
    fn packet(&self) -> &PacketBox<Read> {
        self.0.packet()
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Read> {
        self.0.packet_mut()
    }

    #[inline]
    fn sync_back(self) -> Result<(), IoError> {
        self.0.sync_back().map(drop)
    }
}
