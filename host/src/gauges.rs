//! Counts of threads and bytes that have a bound for all hosts of the process.

use std::sync::atomic::{AtomicUsize, Ordering};

/// An amount with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The amount now.
    pub now: usize,
    /// The bound; `usize::MAX` if there is none.
    pub most: usize,
}

/// Counts something that has a bound.
pub(crate) struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

pub(crate) static THREADS: Gauge = Gauge::new(usize::MAX);
pub(crate) static LOST: Gauge = Gauge::new(256);
pub(crate) static BUFFERS: Gauge = Gauge::new(usize::MAX);

impl Gauge {
    const fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(0), most: AtomicUsize::new(most) }
    }

    /// Sets the bound. Amounts that were taken stay, also if they exceed it.
    pub(crate) fn limit(&self, most: usize) {
        // Ordering: Relaxed. An amount that is taken at the same time may see either bound.
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes an amount; `None` if that would be more than the bound.
    pub(crate) fn take(&'static self, amount: usize) -> Option<Taken> {
        let most = self.most.load(Ordering::Relaxed);
        let add = |now: usize| now.checked_add(amount).filter(|&now| now <= most);
        // Ordering: Relaxed. The count orders nothing else.
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Taken { gauge: self, amount })
    }

    pub(crate) fn bounded(&self) -> Bounded {
        // Ordering: Relaxed. The counts order nothing else.
        Bounded { now: self.now.load(Ordering::Relaxed), most: self.most.load(Ordering::Relaxed) }
    }
}

/// An amount that was taken from a gauge. Dropping it gives the amount back.
pub(crate) struct Taken {
    gauge: &'static Gauge,
    amount: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Ordering: Relaxed. The count orders nothing else.
        self.gauge.now.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[test]
    fn a_gauge_keeps_its_bound() {
        static GAUGE: Gauge = Gauge::new(10);
        let six = GAUGE.take(6).unwrap();
        assert!(GAUGE.take(5).is_none() && GAUGE.take(usize::MAX).is_none());
        let four = GAUGE.take(4).unwrap();
        assert_eq!(GAUGE.bounded().now, 10);
        drop(six);
        assert_eq!(GAUGE.bounded().now, 4);
        drop(four);
        assert_eq!(GAUGE.bounded().now, 0);
    }
}
