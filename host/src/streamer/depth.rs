//! How many blocks are under way at a device: more as long as that makes it faster.
//!
//! The depth grows by half, and the next window decides: if the device has done clearly more in the same time, it grows again;
//! otherwise it goes back, and the next attempt is a while later. So a device with a latency is kept busy, and an urgent
//! request does not wait behind many blocks of a device that is limited by its rate.

use std::time::{Duration, Instant};

/// The depth at first.
const FIRST: usize = 8;

/// The most for a device that names no number.
const MAX_DEPTH: usize = 128;

/// The least time of a window.
const WINDOW: Duration = Duration::from_millis(10);

/// The growth that counts.
const GAIN: f64 = 1.08;

/// Windows until the next attempt after one that did not help.
const PAUSE: u32 = 50;

/// A request counts as this number of bytes besides its own, so that small ones count, too.
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
    /// There was always more to send.
    full: bool,
}

impl Window {
    fn begin(now: Instant) -> Self {
        Self { began: now, work: 0, blocks: 0, full: true }
    }
}

impl Depth {
    /// For a device that wants at most this many requests at a time.
    pub(super) fn new(most: Option<usize>, now: Instant) -> Self {
        let most = most.unwrap_or(MAX_DEPTH).clamp(1, MAX_DEPTH);
        Self { now: FIRST.min(most), most, window: Window::begin(now), before: None, pause: 0 }
    }

    /// Stays the same.
    pub(super) fn fixed(depth: usize, now: Instant) -> Self {
        Self { now: depth, most: depth, window: Window::begin(now), before: None, pause: 0 }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// A block is back; `has_work` says whether others wait.
    pub(super) fn ended(&mut self, bytes: u64, has_work: bool, now: Instant) {
        if self.now == self.most && self.before.is_none() {
            return;
        }
        self.window.work += bytes + PER_BLOCK;
        self.window.blocks += 1;
        self.window.full &= has_work;
        let time = now.saturating_duration_since(self.window.began);
        // Several rounds of all places: the first blocks after a growth were sent at the old depth.
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
