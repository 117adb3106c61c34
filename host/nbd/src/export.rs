//! A device as an export: its size, its flags, and the state of its ranges.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pactio::{Capability, Cause, Code, Device, IoError, Region};

use crate::wire::{HOLE, ZERO, errno, export};

/// Largest request, in bytes.
pub(crate) const MAX_REQUEST_BYTES: u32 = 32 << 20;

/// Largest size of an export: clients take sizes and offsets as signed numbers.
const MAX_SIZE: u64 = i64::MAX as u64;

/// A device that is served.
pub(crate) struct Export {
    pub(crate) device: Device,
    pub(crate) size: u64,
    pub(crate) is_read_only: bool,
    pub(crate) min_block: u32,
    /// The state of ranges without bytes: zeros, or unknown because they cannot be read.
    gaps: u32,
    /// The regions, and the time when they were asked for. Writes of clients make them unknown.
    regions: Mutex<Option<(Instant, Arc<Vec<Region>>)>>,
}

/// A range with one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) len: u32,
    pub(crate) state: u32,
}

impl Export {
    pub(crate) async fn new(device: Device, may_write: bool) -> Result<Self, pactio::Error> {
        let info = device.info();
        if may_write && info.writable() && device.capabilities().has(Capability::PUBLISH) {
            // Nothing tells the end of the writes, at which the bytes would be published.
            let text =
                format!("'{}' is only written as a whole, so clients cannot write to it", device.url());
            return Err(Cause::new(IoError::from_code(Code::UNSUPPORTED), text).into());
        }
        let regions = Arc::new(device.regions().await?);
        let size = match info.size() {
            Some(size) => size,
            // Memory at addresses has no size, but an end.
            None => regions
                .iter()
                .map(|region| region.range.end)
                .filter(|end| *end <= MAX_SIZE)
                .max()
                .unwrap_or(0),
        };
        let mut this = Self {
            size: size.min(MAX_SIZE),
            is_read_only: !may_write || !info.writable(),
            min_block: device.capabilities().limits().alignment().max(1),
            gaps: HOLE,
            regions: Mutex::new(Some((Instant::now(), regions.clone()))),
            device,
        };
        if let Some(gap) = gaps(&regions, 0..this.size).next() {
            let probe = this.device.read_at(gap, vec![0xff; 1]).await;
            if probe.is_ok_and(|(report, bytes)| report.is_done() && bytes == [0]) {
                this.gaps = HOLE | ZERO;
            }
        }
        Ok(this)
    }

    pub(crate) fn flags(&self, is_structured: bool) -> u16 {
        let common = export::HAS_FLAGS | export::CAN_MULTI_CONN;
        let common = if is_structured { common | export::SEND_DF } else { common };
        match self.is_read_only {
            true => common | export::READ_ONLY,
            false => {
                let zeros = export::SEND_TRIM | export::SEND_WRITE_ZEROES | export::SEND_FAST_ZERO;
                common | export::SEND_FLUSH | export::SEND_FUA | zeros
            }
        }
    }

    /// A client has written: a gap may be filled.
    pub(crate) fn changed(&self) {
        *self.regions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The states of a range, in order: at most one, or as many as it takes.
    pub(crate) async fn extents(
        &self,
        offset: u64,
        len: u32,
        only_one: bool,
    ) -> Result<Vec<Extent>, pactio::Error> {
        let regions = || self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = regions().clone().filter(|(asked, _)| asked.elapsed() < MAX_REGIONS_AGE);
        let regions = match known {
            Some((_, regions)) => regions,
            None => {
                let asked = Instant::now();
                let found = Arc::new(self.device.regions().await?);
                *regions() = Some((asked, found.clone()));
                found
            }
        };
        Ok(extents(&regions, offset, len, self.gaps, if only_one { 1 } else { MAX_EXTENTS }))
    }
}

/// Regions are asked for again after this time: other programs may write to the device.
const MAX_REGIONS_AGE: Duration = Duration::from_secs(1);

/// Most extents of an answer. A client asks again for the rest.
const MAX_EXTENTS: usize = 1 << 16;

/// The first positions of the gaps between regions.
fn gaps(regions: &[Region], range: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
    let starts = std::iter::once(range.start).chain(regions.iter().map(|region| region.range.end));
    let ends = regions.iter().map(|region| region.range.start).chain(std::iter::once(range.end));
    starts.zip(ends).filter(move |(start, end)| start < end && range.contains(start)).map(|(start, _)| start)
}

fn extents(regions: &[Region], offset: u64, len: u32, gaps: u32, most: usize) -> Vec<Extent> {
    let end = offset + u64::from(len);
    let mut all: Vec<Extent> = Vec::new();
    let (mut at, mut next) = (offset, regions.partition_point(|region| region.range.end <= offset));
    while at < end {
        let (until, state) = match regions.get(next) {
            Some(region) if region.range.start <= at => {
                next += 1;
                (region.range.end.min(end), if region.has_bytes() { 0 } else { HOLE })
            }
            Some(region) => (region.range.start.min(end), gaps),
            None => (end, gaps),
        };
        let (len, is_full) = (until.saturating_sub(at) as u32, all.len() == most);
        match all.last_mut() {
            Some(last) if last.state == state => last.len += len,
            _ if is_full => break,
            _ if len == 0 => {}
            _ => all.push(Extent { len, state }),
        }
        at = until.max(at);
    }
    all
}

/// The number of the protocol for an error.
pub(crate) fn errno_of(code: Code) -> u32 {
    match code {
        Code::PERMISSION_DENIED | Code::READ_ONLY => errno::EPERM,
        Code::OUT_OF_MEMORY => errno::ENOMEM,
        Code::NO_SPACE => errno::ENOSPC,
        Code::END | Code::INVALID_INPUT | Code::MISALIGNED => errno::EINVAL,
        Code::TOO_LARGE => errno::EOVERFLOW,
        Code::UNSUPPORTED => errno::ENOTSUP,
        _ => errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_cover_a_range_and_neighbours_of_one_state_are_one() {
        let regions = [Region::new(10..20), Region::new(20..30), Region::new(50..60)];
        let of = |offset, len, most| {
            let found = extents(&regions, offset, len, 3, most);
            found.into_iter().map(|extent| (extent.len, extent.state)).collect::<Vec<_>>()
        };
        assert_eq!(of(0, 70, 9), [(10, 3), (20, 0), (20, 3), (10, 0), (10, 3)]);
        assert_eq!(of(15, 10, 9), [(10, 0)]);
        assert_eq!(of(15, 100, 1), [(15, 0)]);
        assert_eq!(of(30, 20, 9), [(20, 3)]);
        assert_eq!(of(60, 5, 9), [(5, 3)]);
        assert_eq!(extents(&[], 3, 4, 1, 9), [Extent { len: 4, state: 1 }]);
        assert_eq!(gaps(&regions, 0..70).collect::<Vec<_>>(), [0, 30, 60]);
        assert_eq!(gaps(&[Region::new(0..70)], 0..70).count(), 0);
    }
}
