//! The number of blocks that are under way at a device. The number grows as long as that makes the device faster.
//!
//! The depth grows by half, and the next window measures the rate. If the rate has grown by more than [`GAIN`], the depth grows
//! again. Otherwise the earlier depth is restored, and the next attempt follows after [`PAUSE`] windows. So a device with latency
//! is kept busy, and at a device that is limited by its rate, an urgent request does not wait behind many blocks.

use std::time::{Duration, Instant};

/// The initial depth.
const FIRST: usize = 8;

/// The largest depth of any device.
const MAX_DEPTH: usize = 128;

/// The least time of a window.
const WINDOW: Duration = Duration::from_millis(10);

/// The factor by which the rate must grow, or the depth shrinks again.
const GAIN: f64 = 1.08;

/// Number of windows from an attempt that did not help until the next one.
const PAUSE: u32 = 50;

/// Bytes that are added to the length of each block, so that small blocks count, too.
const PER_BLOCK: u64 = 16 << 10;

pub(super) struct Depth {
    now: usize,
    most: usize,
    window: Window,
    /// The depth and the rate before the last growth.
    before: Option<(usize, f64)>,
    pause: u32,
}

struct Window {
    began: Instant,
    work: u64,
    blocks: usize,
    /// Other blocks waited each time that a block came back.
    full: bool,
}

impl Window {
    fn begin(now: Instant) -> Self {
        Self { began: now, work: 0, blocks: 0, full: true }
    }
}

impl Depth {
    /// For a device that wants at most `most` requests at a time.
    pub(super) fn new(most: Option<usize>, now: Instant) -> Self {
        let most = most.unwrap_or(MAX_DEPTH).clamp(1, MAX_DEPTH);
        Self { now: FIRST.min(most), most, window: Window::begin(now), before: None, pause: 0 }
    }

    /// A depth that does not change.
    pub(super) fn fixed(depth: usize, now: Instant) -> Self {
        Self { now: depth, most: depth, window: Window::begin(now), before: None, pause: 0 }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// Records that a block is back; `has_work`: other blocks wait.
    pub(super) fn ended(&mut self, bytes: u64, has_work: bool, now: Instant) {
        if self.now == self.most && self.before.is_none() {
            return;
        }
        self.window.work += bytes + PER_BLOCK;
        self.window.blocks += 1;
        self.window.full &= has_work;
        let time = now.saturating_duration_since(self.window.began);
        // A window has at least three times the depth in blocks, since the first blocks after a growth were sent at the old
        // depth.
        if self.window.blocks < 3 * self.now || time < WINDOW {
            return;
        }
        let Window { work, full, .. } = std::mem::replace(&mut self.window, Window::begin(now));
        if full {
            self.decide(work as f64 / time.as_secs_f64());
        } else if let Some((depth, _)) = self.before.take() {
            self.now = depth;
        }
    }

    fn decide(&mut self, rate: f64) {
        match self.before {
            Some((_, before)) if rate > before * GAIN => {}
            Some((depth, _)) => {
                (self.now, self.before, self.pause) = (depth, None, PAUSE);
                return;
            }
            None if self.pause > 0 => {
                self.pause -= 1;
                return;
            }
            None => {}
        }
        if self.now == self.most {
            self.before = None;
            return;
        }
        self.before = Some((self.now, rate));
        self.now = (self.now + self.now.div_ceil(2)).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes `latency` for each block, and does at most `rate` bytes per second. Returns the depth after a while.
    fn settles(latency: Duration, rate: f64, bytes: u64, seconds: f64) -> usize {
        let began = Instant::now();
        let mut depth = Depth::new(None, began);
        // The times at which blocks under way will end.
        let mut ends = std::collections::VecDeque::new();
        let (mut now, mut free) = (began, began);
        while now.duration_since(began).as_secs_f64() < seconds {
            while ends.len() < depth.now() {
                free = free.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
                ends.push_back(free.max(now + latency));
            }
            now = now.max(ends.pop_front().unwrap());
            depth.ended(bytes, true, now);
        }
        depth.now()
    }

    #[test]
    fn it_grows_where_there_is_latency_and_not_where_there_is_a_rate() {
        let wide = settles(Duration::from_millis(20), 1e12, 4096, 3.0);
        assert!(wide >= 64, "{wide} at 20 ms");
        let narrow = settles(Duration::ZERO, 100e6, 256 << 10, 3.0);
        assert!(narrow <= 12, "{narrow} at 100 MB/s");
    }

    #[test]
    fn a_device_that_names_a_number_gets_no_more() {
        let now = Instant::now();
        let mut depth = Depth::new(Some(3), now);
        for millis in 1..1000 {
            depth.ended(4096, true, now + Duration::from_millis(millis));
            assert_eq!(depth.now(), 3);
        }
    }
}
