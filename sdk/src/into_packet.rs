//! What a user may pass as the buffer of a request, and how the result comes back into it.

use alloc::vec::Vec;

use crate::{Error, PacketBox, PacketPerms, Read, VecPacket, Write};

/// A buffer that can be made into a request.
///
/// | buffer | request | copies | comes back as |
/// |--------|---------|--------|---------------|
/// | `&mut [u8]`, `&mut [u8; N]`, `&mut Vec<u8>` | read | one, at the end | `()` |
/// | `&[u8]`, `&[u8; N]`, `&Vec<u8>` | write | one, at the start | `()` |
/// | `Vec<u8>` | both | none | the same `Vec<u8>` |
/// | [`PacketBox`] | its own | none | the same packet, to be used again |
///
/// A borrowed buffer is copied, since the future may be forgotten while the device still works: what is in flight owns
/// its memory. An owned buffer goes with the request and comes back with the result.
pub trait IntoPacket<Perms: PacketPerms> {
    /// The request that owns the memory, and what is needed to give it back.
    type Request: Request<Perms>;

    /// Makes the request.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if memory cannot be had.
    fn into_packet(self) -> Result<Self::Request, Error>;
}

/// A request made from a buffer.
pub trait Request<Perms: PacketPerms>: Sized + Unpin {
    /// What the caller gets back.
    type Back;

    /// The packet.
    fn packet(&self) -> &PacketBox<Perms>;

    /// The packet, to be bound and polled.
    fn packet_mut(&mut self) -> &mut PacketBox<Perms>;

    /// Puts the bytes that were done into the caller's buffer and gives it back.
    ///
    /// # Errors
    ///
    /// [`Error::IN_FLIGHT`] while views exist.
    fn sync_back(self) -> Result<Self::Back, Error>;
}

/// A read request for a borrowed buffer.
#[derive(Debug)]
pub struct ReadInto<'a> {
    packet: PacketBox<Write>,
    buffer: &'a mut [u8],
}

impl Request<Write> for ReadInto<'_> {
    type Back = ();

    #[inline]
    fn packet(&self) -> &PacketBox<Write> {
        &self.packet
    }

    #[inline]
    fn packet_mut(&mut self) -> &mut PacketBox<Write> {
        &mut self.packet
    }

    #[inline]
    fn sync_back(self) -> Result<(), Error> {
        if !self.packet.is_complete() {
            return Err(Error::IN_FLIGHT);
        }
        self.packet.copy_done_to(self.buffer);
        Ok(())
    }
}

/// A write request whose bytes were copied.
#[derive(Debug)]
pub struct WriteFrom {
    packet: PacketBox<Read>,
}

impl Request<Read> for WriteFrom {
    type Back = ();

    #[inline]
    fn packet(&self) -> &PacketBox<Read> {
        &self.packet
    }

    #[inline]
    fn packet_mut(&mut self) -> &mut PacketBox<Read> {
        &mut self.packet
    }

    fn sync_back(self) -> Result<(), Error> {
        if self.packet.is_complete() { Ok(()) } else { Err(Error::IN_FLIGHT) }
    }
}

impl<Perms: PacketPerms> Request<Perms> for VecPacket<Perms> {
    type Back = Vec<u8>;

    fn packet(&self) -> &PacketBox<Perms> {
        self.as_packet()
    }

    fn packet_mut(&mut self) -> &mut PacketBox<Perms> {
        self.as_packet_mut()
    }

    fn sync_back(mut self) -> Result<Vec<u8>, Error> {
        self.take()
    }
}

impl<Perms: PacketPerms> Request<Perms> for PacketBox<Perms> {
    type Back = Self;

    #[inline]
    fn packet(&self) -> &PacketBox<Perms> {
        self
    }

    #[inline]
    fn packet_mut(&mut self) -> &mut PacketBox<Perms> {
        self
    }

    #[inline]
    fn sync_back(self) -> Result<Self, Error> {
        if self.is_complete() { Ok(self) } else { Err(Error::IN_FLIGHT) }
    }
}

impl<Perms: PacketPerms> IntoPacket<Perms> for PacketBox<Perms> {
    type Request = Self;

    #[inline]
    fn into_packet(self) -> Result<Self, Error> {
        Ok(self)
    }
}

impl<'a> IntoPacket<Write> for &'a mut [u8] {
    type Request = ReadInto<'a>;

    #[inline]
    fn into_packet(self) -> Result<ReadInto<'a>, Error> {
        Ok(ReadInto { packet: PacketBox::new_buf(self.len())?, buffer: self })
    }
}

impl IntoPacket<Read> for &[u8] {
    type Request = WriteFrom;

    #[inline]
    fn into_packet(self) -> Result<WriteFrom, Error> {
        Ok(WriteFrom { packet: PacketBox::copy_from_slice(self)? })
    }
}

impl<'a, const N: usize> IntoPacket<Write> for &'a mut [u8; N] {
    type Request = ReadInto<'a>;

    #[inline]
    fn into_packet(self) -> Result<ReadInto<'a>, Error> {
        self.as_mut_slice().into_packet()
    }
}

impl<const N: usize> IntoPacket<Read> for &[u8; N] {
    type Request = WriteFrom;

    #[inline]
    fn into_packet(self) -> Result<WriteFrom, Error> {
        self.as_slice().into_packet()
    }
}

impl<'a> IntoPacket<Write> for &'a mut Vec<u8> {
    type Request = ReadInto<'a>;

    fn into_packet(self) -> Result<ReadInto<'a>, Error> {
        self.as_mut_slice().into_packet()
    }
}

impl IntoPacket<Read> for &Vec<u8> {
    type Request = WriteFrom;

    fn into_packet(self) -> Result<WriteFrom, Error> {
        self.as_slice().into_packet()
    }
}

impl<Perms: PacketPerms> IntoPacket<Perms> for Vec<u8> {
    type Request = VecPacket<Perms>;

    fn into_packet(self) -> Result<VecPacket<Perms>, Error> {
        VecPacket::new(self)
    }
}
