//! A device that fails requests at random.

use std::sync::atomic::{AtomicU64, Ordering};

use pactio_schedule::mix;
use pactio_sdk::{
    BoundPacketView, Capability, Filter, IoError, Lower, NoPos, PacketIo, PacketPerms, Read, ReadWrite, Write,
};

/// The failures to make.
pub(crate) struct Plan {
    /// Number of failures per hundred requests.
    pub(crate) read: u8,
    pub(crate) write: u8,
    pub(crate) error: IoError,
    pub(crate) partly: bool,
    pub(crate) seed: u64,
}

/// See the [crate](crate).
pub(crate) struct FaultyDevice {
    below: Lower,
    plan: Plan,
    /// Number of requests so far.
    count: AtomicU64,
}

impl FaultyDevice {
    pub(crate) fn new(below: Lower, plan: Plan) -> Self {
        Self { below, plan, count: AtomicU64::new(0) }
    }

    /// Sends a view on, or the part of it that does not fail.
    fn pass<Perms: PacketPerms, P>(&self, percent: u8, param: P, view: BoundPacketView<Perms>)
    where
        Lower: PacketIo<Perms, P>,
    {
        // Ordering: Relaxed. The count is a number and orders nothing.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let random = mix(self.plan.seed ^ mix(number));
        if random % 100 >= u64::from(percent) {
            return self.below.send_io(param, view);
        }
        let done = if self.plan.partly { mix(random) as usize % view.len().max(1) } else { 0 };
        if done == 0 {
            return view.error(self.plan.error);
        }
        let (front, rest) = view.split_at(done);
        rest.error(self.plan.error);
        self.below.send_io(param, front);
    }
}

impl Filter for FaultyDevice {
    const FORWARDS: &'static [Capability] = &[
        Capability::CANCELLATION,
        Capability::ADMISSION,
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::PUBLISH,
        Capability::RESIZE,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
        Capability::REFUSED,
        Capability::STATISTICS,
    ];

    fn lower(&self) -> &Lower {
        &self.below
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.pass(self.plan.read, position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.pass(self.plan.write, position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.pass(self.plan.read, position, view);
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.pass(self.plan.read, NoPos, view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.pass(self.plan.write, NoPos, view);
    }
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn a_tenth_is_about_a_tenth_and_seeds_differ() {
        let failed = |seed: u64| -> Vec<u64> {
            (0..10_000).filter(|number| mix(seed ^ mix(*number)) % 100 < 10).collect()
        };
        assert!((900..1100).contains(&failed(1).len()), "{}", failed(1).len());
        assert_eq!(failed(1), failed(1));
        assert_ne!(failed(1), failed(2));
    }
}
