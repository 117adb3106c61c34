//! Reads and writes of several ranges, of an unknown length, and without a position.

use std::ops::Range;

use pactio_sdk::io::{Incomplete, IntoVectored};
use pactio_sdk::{
    Code, IntoPacket, IoError, IoExchange, PacketStore, Report, StreamRead, StreamWrite, VecPacket,
    VectoredIo,
};

use super::Device;
use super::request::Back;
use crate::{Error, ExchangeRequest, ReadRequest, WriteRequest};

/// The type in which the buffers of a request come back.
type VectoredBack<R, V> = <<V as IntoVectored<R, u64>>::Store as PacketStore<R>>::Back;

/// First and largest read of a [`Device::read_to_end`], in bytes.
const CHUNKS: (usize, usize) = (1 << 14, 1 << 22);

impl Device {
    /// Reads a range as a new vector.
    ///
    /// ```no_run
    /// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
    /// let header = device.read_range(0..512).await?;
    /// assert_eq!(header.len(), 512);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If any byte of it could not be read, or the range does not fit into memory.
    ///
    /// # Panics
    ///
    /// If the range ends before it starts.
    pub async fn read_range(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        assert!(range.start <= range.end, "{range:?} ends before it starts");
        let not_started = |error| self.failed("read", range.start, Incomplete::NotStarted(error));
        let len =
            usize::try_from(range.end - range.start).map_err(|_| not_started(IoError::OUT_OF_MEMORY))?;
        self.read_exact_at(range.start, VecPacket::with_len(len).map_err(not_started)?).await
    }

    /// Reads from `position` until the device reports its end, and appends to `all`; gives the number of bytes.
    ///
    /// # Errors
    ///
    /// Any failure but the end. The bytes that were read before it are in `all`.
    pub async fn read_to_end(&self, position: u64, all: &mut Vec<u8>) -> Result<usize, Error> {
        let (before, mut at, mut chunk) = (all.len(), position, CHUNKS.0);
        loop {
            let not_started = |error| self.failed("read", at, Incomplete::NotStarted(error));
            let packet = VecPacket::with_len(chunk).map_err(not_started)?;
            let (report, bytes) = self.read_at(at, packet).await?;
            let done = report.error_clamp();
            all.try_reserve(done).map_err(|_| not_started(IoError::OUT_OF_MEMORY))?;
            all.extend_from_slice(&bytes[..done]);
            at += done as u64;
            match report.min_error() {
                None => chunk = (chunk * 2).min(CHUNKS.1),
                Some((_, error)) if error.code() == Code::END => return Ok(all.len() - before),
                // A device may give fewer bytes than were requested, and continue in the next request.
                Some((_, error)) if done > 0 && error.code() == Code::SHORT => {}
                Some(_) => return Err(self.failed("read", at - done as u64, Incomplete::Partly(report))),
            }
        }
    }

    /// Reads into many buffers, each at its own position, in one call to the plugin. Gives the buffers, and one account of all
    /// bytes, in the order of the buffers.
    ///
    /// | pairs | copies | come back as |
    /// |-------|--------|--------------|
    /// | `Vec<(u64, Vec<u8>)>` | none | the vectors, in order |
    /// | `&mut [(u64, &mut [u8])]` | one, at the end | `()` |
    ///
    /// ```no_run
    /// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
    /// let (report, buffers) = device.read_vectored(vec![(0, vec![0; 512]), (1 << 20, vec![0; 64])]).await?;
    /// println!("{report}; the second begins with {:x?}", &buffers[1][..4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the request could not be made. Failures that the device reports are in the account.
    pub async fn read_vectored<V: IntoVectored<ReadRequest, u64>>(
        &self,
        pairs: V,
    ) -> Result<(Report, VectoredBack<ReadRequest, V>), Error> {
        VectoredIo::<ReadRequest, u64>::vectored(self, pairs)
            .await
            .map_err(|error| self.not_started("read", error))
    }

    /// Writes many buffers, each to its own position, in one call to the plugin; see [`read_vectored`](Self::read_vectored).
    /// `&[(u64, &[u8])]` is copied once, `Vec<(u64, Vec<u8>)>` is not.
    ///
    /// # Errors
    ///
    /// If the request could not be made. Failures that the device reports are in the account.
    pub async fn write_vectored<V: IntoVectored<WriteRequest, u64>>(
        &self,
        pairs: V,
    ) -> Result<(Report, VectoredBack<WriteRequest, V>), Error> {
        VectoredIo::<WriteRequest, u64>::vectored(self, pairs)
            .await
            .map_err(|error| self.not_started("write", error))
    }

    /// Reads into many buffers like [`read_vectored`](Self::read_vectored), on this thread.
    ///
    /// # Errors
    ///
    /// As [`read_vectored`](Self::read_vectored).
    pub fn blocking_read_vectored(&self, pairs: &mut [(u64, &mut [u8])]) -> Result<Report, Error> {
        crate::executor::block_on(self.read_vectored(pairs)).map(|(report, ())| report)
    }

    /// Writes many buffers like [`write_vectored`](Self::write_vectored), on this thread.
    ///
    /// # Errors
    ///
    /// As [`write_vectored`](Self::write_vectored).
    pub fn blocking_write_vectored(&self, pairs: &[(u64, &[u8])]) -> Result<Report, Error> {
        crate::executor::block_on(self.write_vectored(pairs)).map(|(report, ())| report)
    }

    /// Exchanges the bytes of `buffer` with those of the device; gives the account and the buffer. The exchanged bytes of the
    /// buffer are then those that the device had.
    ///
    /// # Errors
    ///
    /// If the request could not be made. Failures that the device reports are in the account.
    pub async fn exchange_at<B: IntoPacket<ExchangeRequest>>(
        &self,
        position: u64,
        buffer: B,
    ) -> Result<(Report, Back<ExchangeRequest, B>), Error> {
        let exchanged = self.exchange_raw(position, buffer).await;
        exchanged.map_err(|error| self.failed("exchange", position, Incomplete::NotStarted(error)))
    }

    /// Reads the next bytes of a stream; gives the account and the buffer.
    ///
    /// # Errors
    ///
    /// If the request could not be made. Failures that the device reports are in the account.
    pub async fn read_next<B: IntoPacket<ReadRequest>>(
        &self,
        buffer: B,
    ) -> Result<(Report, Back<ReadRequest, B>), Error> {
        StreamRead::read_next(self, buffer).await.map_err(|error| self.not_started("read", error))
    }

    /// Writes to a stream, behind the bytes that were written before; gives the account and the buffer.
    ///
    /// # Errors
    ///
    /// If the request could not be made. Failures that the device reports are in the account.
    pub async fn write_next<B: IntoPacket<WriteRequest>>(
        &self,
        buffer: B,
    ) -> Result<(Report, Back<WriteRequest, B>), Error> {
        StreamWrite::write_next(self, buffer).await.map_err(|error| self.not_started("write", error))
    }

    #[cold]
    fn not_started(&self, what: &str, error: IoError) -> Error {
        self.failed(what, 0, Incomplete::NotStarted(error))
    }
}
