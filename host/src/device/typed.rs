//! Reading and writing one plain value.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytemuck::{AnyBitPattern, NoUninit};
use pactio_sdk::Read;
use pactio_sdk::io::Value;

use super::Device;
use super::request::{ExactRequest, target};
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
    #[inline]
    pub fn read<T: AnyBitPattern>(&self, position: u64) -> ReadValue<'_, T> {
        ReadValue(pactio_sdk::io::ReadValue::new(self, position))
    }

    /// Writes a value of plain data to `position`, in the byte order of this machine.
    ///
    /// # Errors
    ///
    /// If any byte of it could not be written.
    pub fn write<T: NoUninit>(&self, position: u64, value: &T) -> WriteValue<'_, T> {
        WriteValue(self.write_all_at(position, Value(*value)))
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

/// The future of [`Device::read`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is polled"]
pub struct ReadValue<'d, T: AnyBitPattern>(pactio_sdk::io::ReadValue<&'d Device, u64, T>);

impl<T: AnyBitPattern> Unpin for ReadValue<'_, T> {}

impl<T: AnyBitPattern> Future for ReadValue<'_, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (device, position) = target(self.0.get_ref());
        self.0.poll_value(cx, |incomplete| device.failed("read", position, incomplete))
    }
}

/// The future of [`Device::write`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is polled"]
pub struct WriteValue<'d, T: NoUninit>(ExactRequest<'d, Read, Value<T>>);

impl<T: NoUninit> Future for WriteValue<'_, T> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(drop)
    }
}
