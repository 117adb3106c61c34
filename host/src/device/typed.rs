//! Reading and writing one plain value.

use bytemuck::{AnyBitPattern, NoUninit};
use pactio_sdk::io::Value;

use super::{Device, ReadValue, WriteValue};
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
        ReadValue::of_value(self, position)
    }

    /// Writes a value of plain data to `position`, in the byte order of this machine.
    ///
    /// # Errors
    ///
    /// If any byte of it could not be written.
    pub fn write<T: NoUninit>(&self, position: u64, value: &T) -> WriteValue<'_, T> {
        self.write_all_at(position, Value(*value))
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
