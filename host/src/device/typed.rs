//! Reading and writing one plain value.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytemuck::{AnyBitPattern, NoUninit};
use pactio_sdk::{FullPacket, PacketBox, Write};

use super::Device;
use super::request::Exact;
use crate::Error;

impl Device {
    /// Reads a value of plain data at `position`, in the byte order of this machine.
    ///
    /// # Errors
    ///
    /// If any byte of it could not be read.
    ///
    /// ```no_run
    /// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
    /// let magic: [u8; 4] = device.read(0).await?;
    /// let count = device.read::<u32>(4).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read<T: AnyBitPattern>(&self, position: u64) -> ReadValue<'_, T> {
        ReadValue { device: self, position, packet: None }
    }

    /// Writes a value of plain data to `position`, in the byte order of this machine.
    ///
    /// # Errors
    ///
    /// If any byte of it could not be written.
    pub fn write<T: NoUninit>(&self, position: u64, value: &T) -> WriteValue<'_> {
        self.write_all_at(position, bytemuck::bytes_of(value).to_vec())
    }

    /// Reads a value like [`read`](Self::read), on this thread.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn blocking_read<T: AnyBitPattern>(&self, position: u64) -> Result<T, Error> {
        crate::executor::block_on(self.read(position))
    }

    /// Writes a value like [`write`](Self::write), on this thread.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn blocking_write<T: NoUninit>(&self, position: u64, value: &T) -> Result<(), Error> {
        self.blocking_write_all_at(position, bytemuck::bytes_of(value))
    }
}

/// The future of [`Device::write`].
pub type WriteValue<'d> = Exact<'d, pactio_sdk::Read, Vec<u8>>;

/// The future of [`Device::read`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is polled"]
pub struct ReadValue<'d, T> {
    device: &'d Device,
    position: u64,
    packet: Option<FullPacket<T, Write>>,
}

impl<T> Unpin for ReadValue<'_, T> {}

impl<T: AnyBitPattern> Future for ReadValue<'_, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let packet = match &mut this.packet {
            Some(packet) => packet,
            None => {
                let started = FullPacket::new_uninit().and_then(|mut packet| {
                    this.device.start(this.position, packet.as_mut(), cx)?;
                    Ok(packet)
                });
                match started {
                    Ok(packet) => this.packet.insert(packet),
                    Err(error) => return Poll::Ready(Err(this.device.not_started("read", error))),
                }
            }
        };
        let inner: &mut PacketBox<Write> = packet.as_mut();
        if Pin::new(inner).poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match packet.get() {
            Ok(value) => Ok(value),
            Err(_) => Err(this.device.incomplete("read", this.position, packet.report())),
        })
    }
}
