//! Counts of the requests that go through a layer.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ext::Metric;
use crate::{BoundPacketView, Code, PacketPerms, ReboundPacket};

/// Counts of requests, bytes, errors, and the times of answers. Bytes past the end of a device are no error.
///
/// ```
/// # use pactio_sdk::{BoundPacketView, Counts, PacketBox, RequestKind, Write};
/// # fn device_read(_: u64, view: BoundPacketView<Write>) { view.transfer_data(&[0; 64]).complete() }
/// let counts = Counts::default();
/// let mut packet = PacketBox::<Write>::new_buf(64)?;
/// counts.pass(RequestKind::Read, packet.bind()?, |view| device_read(0, view));
/// assert!(counts.figures().iter().any(|figure| figure.name == "bytes read" && figure.value == 64));
/// # Ok::<(), pactio_sdk::IoError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kinds: [Kind; 3],
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    pending: Mutex<Pending>,
}

/// The requests that are not answered yet, by a number of their own.
#[derive(Debug, Default)]
struct Pending {
    next: u64,
    all: BTreeMap<u64, InFlight>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// The kind of the request.
    pub kind: RequestKind,
    /// Its length in bytes.
    pub len: usize,
    /// The time of its arrival.
    pub since: Instant,
}

/// The counts of one kind of request.
#[derive(Debug)]
struct Kind {
    requests: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    longest: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

/// Names of the kinds: the requests, one of them, its bytes.
const NAMES: [(&str, &str, &str); 3] =
    [("reads", "read", "read"), ("writes", "write", "written"), ("exchanges", "exchange", "exchanged")];

/// Buckets per power of two, so that a time is known to within a quarter.
const STEPS: u64 = 4;

const BUCKETS: usize = 64 * STEPS as usize;

impl Default for Kind {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            times: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// The bucket of a time in nanoseconds.
fn bucket(time: u64) -> usize {
    if time < STEPS {
        return time as usize;
    }
    let power = u64::from(time.ilog2());
    (power * STEPS + (time >> (power - 2) & (STEPS - 1))) as usize
}

/// The shortest time of the next bucket.
fn bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next < 2 * STEPS {
        return next.min(STEPS);
    }
    let (power, step) = (next / STEPS, next % STEPS);
    (STEPS + step).checked_shl(power as u32 - 2).filter(|_| power < 64).unwrap_or(u64::MAX)
}

// All orderings are Relaxed: the counts are plain numbers, and no data is read because of them.
impl Kind {
    fn count(&self, time: Duration, bytes: usize, failed: bool) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(failed.into(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.longest.fetch_max(time, Ordering::Relaxed);
        self.times[bucket(time)].fetch_add(1, Ordering::Relaxed);
    }

    /// A time in nanoseconds that `thousandths` of a thousand requests did not exceed.
    fn quantile(&self, thousandths: u64) -> u64 {
        let counts: Vec<u64> = self.times.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * thousandths).div_ceil(1000);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.map_or(0, bound).min(self.longest.load(Ordering::Relaxed))
    }
}

impl Counts {
    /// The figures of each kind of request that has occurred.
    pub fn figures(&self) -> Vec<Metric> {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut figures = Vec::new();
        for (kind, (plural, singular, done)) in self.0.kinds.iter().zip(NAMES) {
            if number(&kind.requests) == 0 {
                continue;
            }
            figures.extend([
                Metric::count(plural, number(&kind.requests)),
                Metric::count(&format!("{plural} failed"), number(&kind.failed)),
                Metric::bytes(&format!("bytes {done}"), number(&kind.bytes)),
                Metric::nanoseconds(&format!("{singular} time p50"), kind.quantile(500)),
                Metric::nanoseconds(&format!("{singular} time p99"), kind.quantile(990)),
                Metric::nanoseconds(&format!("{singular} time most"), number(&kind.longest)),
            ]);
        }
        figures.push(Metric::count("in flight", number(&self.0.in_flight)));
        figures.push(Metric::count("in flight most", number(&self.0.most_in_flight)));
        figures
    }
}

/// A kind of request that is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A read, of a position or of a stream.
    Read = 0,
    /// A write.
    Write = 1,
    /// An exchange.
    Exchange = 2,
}

impl Counts {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests that are not answered yet, the oldest first.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.pending().all.values().copied().collect()
    }

    /// Counts a request, which `send` then sends on.
    pub fn pass<Perms: PacketPerms>(
        &self,
        kind: RequestKind,
        view: BoundPacketView<Perms>,
        send: impl FnOnce(BoundPacketView<Perms>),
    ) {
        // If memory cannot be allocated, the view has failed already.
        let Ok(mut rebound) = ReboundPacket::new(view) else { return };
        let Ok(fresh) = rebound.bind() else { return };
        let begun = Instant::now();
        let number = {
            let mut pending = self.pending();
            pending.next += 1;
            let number = pending.next;
            pending.all.insert(number, InFlight { kind, len: fresh.len(), since: begun });
            number
        };
        let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let counts = self.clone();
        rebound.on_complete(move |rebound| {
            counts.pending().all.remove(&number);
            let shared = &counts.0;
            let report = rebound.report();
            // A request past the end of a device is no failure.
            let failed = report.failed_ranges().any(|(_, error)| error.code() != Code::END);
            shared.kinds[kind as usize].count(begun.elapsed(), report.done(), failed);
            shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            let _ = rebound.forward();
        });
        send(fresh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_a_quarter_wide() {
        let mut last = 0;
        for time in
            (0..2000).chain((11..64).flat_map(|power| [1 << power, (1 << power) + (1 << (power - 1))]))
        {
            let number = bucket(time);
            assert!(number >= last, "{time}");
            last = number;
            assert!(bound(number) > time, "{time} < {}", bound(number));
            assert!(bound(number) <= time + time / 4 + 1, "{time}: {}", bound(number));
        }
        assert_eq!(bound(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let kind = Kind::default();
        for time in 1..=1000 {
            kind.count(Duration::from_nanos(time), 1, time % 10 == 0);
        }
        let near = |value: u64, wanted: u64| value >= wanted && value <= wanted + wanted / 4 + 1;
        assert!(near(kind.quantile(500), 500), "{}", kind.quantile(500));
        assert!(near(kind.quantile(990), 990), "{}", kind.quantile(990));
        assert_eq!((kind.quantile(1000), kind.failed.into_inner()), (1000, 100));
    }
}
