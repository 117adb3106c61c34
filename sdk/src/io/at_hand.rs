//! Decides which reads of a device with [`ReadNow`](crate::ReadNow) are tried at once.

use core::sync::atomic::{AtomicU8, Ordering};

/// Counts the reads of a device, so that those after a declined one are not tried.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct ReadNowGate {
    /// Number of reads that are not tried, since the device has declined one.
    skipped: AtomicU8,
}

impl ReadNowGate {
    /// Number of reads without a try after one that the device declined: a try may cost as much as a request.
    const SKIPPED: u8 = 63;

    /// Whether the next read is tried. Counts the read.
    #[inline(always)]
    pub fn is_tried(&self) -> bool {
        // Ordering: Relaxed. The number is a hint, and may count wrong.
        let skipped = self.skipped.load(Ordering::Relaxed);
        if skipped > 0 {
            self.skipped.store(skipped - 1, Ordering::Relaxed);
        }
        skipped == 0
    }

    /// Records the result of a try.
    #[inline(always)]
    pub fn tried(&self, is_full: bool) {
        if !is_full {
            self.skipped.store(Self::SKIPPED, Ordering::Relaxed);
        }
    }
}
