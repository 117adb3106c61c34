//! Check sums that a store keeps of whole objects: compared when all bytes of an object were read, in any order.
//!
//! Only sums whose parts can be combined are used: CRC-32, CRC-32C and CRC-64/NVME of S3, CRC-32C of Google. A sum that S3 made
//! of the sums of an upload's parts is not one of all bytes, and is ignored.

use std::cell::Cell;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The header that asks S3 for the check sum of an object.
pub(crate) const WANTED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-amz-checksum-mode"), HeaderValue::from_static("ENABLED"));

/// Most ranges that were read and do not touch each other.
const MAX_RANGES: usize = 4096;

tokio::task_local! {
    /// The check sum in the last answer.
    static NOTED: Cell<Option<Sum>>;

    /// The bytes that are sent.
    static SENT: Bytes;
}

/// The check sum of all bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sum {
    algorithm: CrcAlgorithm,
    value: u64,
}

/// Makes a request, and gives the check sum in its answer beside the result.
pub(crate) async fn noting<T>(request: impl Future<Output = T>) -> (T, Option<Sum>) {
    NOTED.scope(Cell::new(None), async { (request.await, NOTED.with(Cell::take)) }).await
}

/// Keeps the check sum in an answer, if a request waits for it.
pub(crate) fn note(headers: &HeaderMap) {
    let _ = NOTED.try_with(|noted| noted.set(Sum::of(headers)));
}

/// Makes a request that sends bytes. They are compared with the check sum of what the server received, if its answer has one.
pub(crate) async fn sending<T>(bytes: Bytes, request: impl Future<Output = T>) -> T {
    SENT.scope(bytes, request).await
}

/// Whether the server received other bytes than those that were sent.
pub(crate) fn is_damaged(headers: &HeaderMap) -> bool {
    let sum = || Sum::of(headers).or_else(|| Sum::of_azure(headers));
    let differs = |sent: &Bytes| {
        !sent.is_empty() && sum().is_some_and(|sum| crc_fast::checksum(sum.algorithm, sent) != sum.value)
    };
    SENT.try_with(differs).unwrap_or(false)
}

impl Sum {
    /// The check sum of the bytes of a request to Azure: the polynomial of NVME, with the lowest byte in front.
    fn of_azure(headers: &HeaderMap) -> Option<Self> {
        let bytes = STANDARD.decode(headers.get("x-ms-content-crc64")?).ok()?;
        let value = u64::from_le_bytes(bytes.try_into().ok()?);
        Some(Self { algorithm: CrcAlgorithm::Crc64Nvme, value })
    }

    /// The check sum of a whole object or part in the headers of S3 or Google, with the highest byte in front.
    fn of(headers: &HeaderMap) -> Option<Self> {
        // The bytes that arrive are not those that Google keeps compressed.
        let encoding = headers.get("x-goog-stored-content-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return None;
        }
        let google = headers.get_all("x-goog-hash").into_iter().filter_map(|value| value.to_str().ok());
        let google =
            google.flat_map(|values| values.split(',')).filter_map(|value| value.trim().split_once('='));
        let amazon = [
            ("x-amz-checksum-crc64nvme", CrcAlgorithm::Crc64Nvme),
            ("x-amz-checksum-crc32c", CrcAlgorithm::Crc32Iscsi),
            ("x-amz-checksum-crc32", CrcAlgorithm::Crc32IsoHdlc),
        ];
        let amazon = amazon
            .into_iter()
            .filter_map(|(name, algorithm)| Some((headers.get(name)?.to_str().ok()?, algorithm)));
        let google =
            google.filter(|(name, _)| *name == "crc32c").map(|(_, value)| (value, CrcAlgorithm::Crc32Iscsi));
        amazon.chain(google).find_map(|(text, algorithm)| {
            // A sum of the sums of parts is no base64: it ends with `-` and the number of parts.
            let bytes = STANDARD.decode(text).ok()?;
            let len = if algorithm == CrcAlgorithm::Crc64Nvme { 8 } else { 4 };
            let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            (bytes.len() == len).then_some(Self { algorithm, value })
        })
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::new(self.algorithm)
    }
}

/// The ranges of an object that were read.
pub(crate) struct Progress {
    sum: Sum,
    size: u64,
    /// The end of each range and the check sum of its bytes, by its start.
    read: BTreeMap<u64, (u64, u64)>,
}

/// The bytes that arrived are not those that were stored.
#[derive(Debug)]
pub(crate) struct Differs;

impl Progress {
    pub(crate) fn new(sum: Sum, size: u64) -> Self {
        Self { sum, size, read: BTreeMap::new() }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.sum.digest()
    }

    /// Bytes from `start` to `end` have arrived. Ranges with some of them that were read before no longer count.
    ///
    /// # Errors
    ///
    /// If all bytes have arrived, and their check sum differs.
    pub(crate) fn add(&mut self, start: u64, end: u64, sum: u64) -> Result<(), Differs> {
        if start == end {
            return Ok(());
        }
        // The sum of a range cannot be cut, so a range that overlaps is forgotten.
        while let Some((before, _)) =
            self.read.range(..end).next_back().filter(|(_, (behind, _))| *behind > start)
        {
            let before = *before;
            self.read.remove(&before);
        }
        // Bounds the memory. The bytes of forgotten ranges have to be read again before all can be compared.
        if self.read.len() >= MAX_RANGES {
            self.read.clear();
        }
        let combine = |one, other, len| checksum_combine(self.sum.algorithm, one, other, len);
        // Joins the range with the one that ends at its start, and with the one that begins at its end.
        let (mut start, mut end, mut sum) = (start, end, sum);
        if let Some((before, (behind, earlier))) =
            self.read.range(..start).next_back().map(|(begin, range)| (*begin, *range))
            && behind == start
        {
            sum = combine(earlier, sum, end - start);
            self.read.remove(&before);
            start = before;
        }
        if let Some((behind, later)) = self.read.remove(&end) {
            sum = combine(sum, later, behind - end);
            end = behind;
        }
        if (start, end) == (0, self.size) {
            return if sum == self.sum.value { Ok(()) } else { Err(Differs) };
        }
        self.read.insert(start, (end, sum));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn sums_of_all_bytes_are_found_in_the_headers_and_others_are_not() {
        let sum = |algorithm, value| Some(Sum { algorithm, value });
        let crc32c = sum(CrcAlgorithm::Crc32Iscsi, 0x9f7d_31e8);
        for (all, expected) in [
            (&[("x-goog-hash", "crc32c=n30x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==")][..], crc32c),
            (&[("x-amz-checksum-crc32c", "n30x6A==")], crc32c),
            (&[("x-amz-checksum-crc32", "n30x6A==")], sum(CrcAlgorithm::Crc32IsoHdlc, 0x9f7d_31e8)),
            (&[("x-amz-checksum-crc64nvme", "AAAAAAAAAAE=")], sum(CrcAlgorithm::Crc64Nvme, 1)),
            // Of the sums of three parts.
            (&[("x-amz-checksum-crc32c", "n30x6A==-3")], None),
            (&[("x-goog-hash", "crc32c=n30x6A=="), ("x-goog-stored-content-encoding", "gzip")], None),
            (&[("x-goog-hash", "md5=Ojk9c3dhfxgoKVVHYwFbHQ==")], None),
            (&[("x-amz-checksum-crc64nvme", "n30x6A==")], None),
            (&[], None),
        ] {
            assert_eq!(Sum::of(&headers(all)), expected, "{all:?}");
        }
    }

    #[test]
    fn ranges_in_any_order_give_the_sum_of_all_bytes() {
        let mut random = fastrand::Rng::with_seed(5);
        let bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        for algorithm in [CrcAlgorithm::Crc32Iscsi, CrcAlgorithm::Crc32IsoHdlc, CrcAlgorithm::Crc64Nvme] {
            let of = |bytes: &[u8]| crc_fast::checksum(algorithm, bytes);
            for round in 0..20 {
                let mut ends: Vec<usize> = (0..10).map(|_| random.usize(0..bytes.len())).collect();
                ends.extend([0, bytes.len()]);
                ends.sort_unstable();
                let mut ranges: Vec<_> = ends.windows(2).map(|pair| (pair[0], pair[1])).collect();
                random.shuffle(&mut ranges);
                let is_wrong = round % 2 == 1;
                let value = of(&bytes) ^ u64::from(is_wrong);
                let mut progress = Progress::new(Sum { algorithm, value }, bytes.len() as u64);
                let mut read =
                    |start: usize, end: usize| progress.add(start as u64, end as u64, of(&bytes[start..end]));
                // A range that is read again no longer counts.
                assert!(read(17, 4000).is_ok());
                let results: Vec<_> = ranges.iter().map(|(start, end)| read(*start, *end).is_err()).collect();
                assert_eq!(
                    results.iter().filter(|differs| **differs).count(),
                    usize::from(is_wrong),
                    "{ranges:?}"
                );
                // All of it again, at once.
                assert_eq!(read(0, bytes.len()).is_err(), is_wrong);
            }
        }
    }
}
