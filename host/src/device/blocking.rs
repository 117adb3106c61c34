//! Requests on the calling thread, directly into and out of the caller's memory.

use pactio_sdk::Report;
use pactio_sdk::io::{BlockingIo, Incomplete};

use super::Device;
use crate::Error;

impl Device {
    /// Reads exactly `buffer.len()` bytes from `position`, without a copy in between.
    ///
    /// # Errors
    ///
    /// As [`read_exact_at`](Self::read_exact_at). `buffer` then holds the bytes that were read and, elsewhere, any bytes.
    #[inline]
    pub fn blocking_read_exact_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let report = self.blocking_read_at(position, buffer)?;
        self.exactly("read", position, report)
    }

    /// Reads the bytes that can be read, without a copy in between, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    #[inline]
    pub fn blocking_read_at(&self, position: u64, buffer: &mut [u8]) -> Result<Report, Error> {
        self.blocking_read_raw(position, buffer)
            .map_err(|error| self.failed("read", position, Incomplete::NotStarted(error)))
    }

    /// Writes all of `buffer` to `position`, without a copy in between.
    ///
    /// # Errors
    ///
    /// As [`write_all_at`](Self::write_all_at).
    pub fn blocking_write_all_at(&self, position: u64, buffer: &[u8]) -> Result<(), Error> {
        let report = self.blocking_write_at(position, buffer)?;
        self.exactly("write", position, report)
    }

    /// Writes the bytes that can be written, without a copy in between, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    pub fn blocking_write_at(&self, position: u64, buffer: &[u8]) -> Result<Report, Error> {
        self.blocking_write_raw(position, buffer)
            .map_err(|error| self.failed("write", position, Incomplete::NotStarted(error)))
    }

    #[inline]
    pub(crate) fn exactly(&self, what: &str, position: u64, report: Report) -> Result<(), Error> {
        if report.is_done() { Ok(()) } else { Err(self.failed(what, position, Incomplete::Partly(report))) }
    }
}
