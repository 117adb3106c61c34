//! A device that asks again for what failed, and for that alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pactio_plugin_schedule::{Later, Schedule};
use pactio_sdk::{
    Admission, Below, BoundPacketView, Code, Device, DeviceInfo, Error, Figure, PacketIo, PacketPerms,
    PollingHandle, Read, ReadWrite, ReboundPacket, Records, Statistics, Write,
};

/// How it is tried again.
pub(crate) struct Plan {
    pub(crate) attempts: u32,
    pub(crate) delay: Duration,
    pub(crate) longest: Duration,
    pub(crate) io: bool,
}

/// See the [crate](crate).
pub(crate) struct RetryingDevice {
    pub(crate) shared: Arc<Shared>,
    pub(crate) schedule: Schedule,
}

pub(crate) struct Shared {
    pub(crate) below: Below,
    pub(crate) later: Later,
    pub(crate) plan: Plan,
    pub(crate) retried: AtomicU64,
    pub(crate) gave_up: AtomicU64,
}

impl Plan {
    /// It may be over soon.
    fn is_temporary(&self, error: Error) -> bool {
        match error.code() {
            Code::Busy | Code::TimedOut | Code::Disconnected => true,
            Code::Io => self.io,
            _ => false,
        }
    }

    /// How long to wait after so many attempts.
    fn wait(&self, attempts: u32) -> Duration {
        self.delay.saturating_mul(1 << (attempts - 1).min(30)).min(self.longest)
    }
}

impl Shared {
    /// Sends a view, as the last of so many attempts.
    fn send<Perms: PacketPerms>(self: &Arc<Self>, position: u64, view: BoundPacketView<Perms>, attempts: u32)
    where
        Below: PacketIo<Perms, u64>,
    {
        // Where that fails for want of memory, the view is failed already.
        let Ok(mut rebound) = ReboundPacket::new(view) else { return };
        let Ok(fresh) = rebound.bind() else { return };
        let this = self.clone();
        rebound.on_complete(move |rebound| {
            let unwanted = rebound.is_cancelled();
            let _ = rebound.settle(|range, failed, error| {
                if unwanted || !this.plan.is_temporary(error) {
                    return failed.error(error);
                }
                if attempts >= this.plan.attempts {
                    this.gave_up.fetch_add(1, Ordering::Relaxed);
                    return failed.error(error);
                }
                this.retried.fetch_add(1, Ordering::Relaxed);
                let (again, position) = (this.clone(), position.saturating_add(range.start as u64));
                let when = Instant::now() + this.plan.wait(attempts);
                this.later.at(when, move || again.send(position, failed, attempts + 1));
            });
        });
        self.below.send_io(position, fresh);
    }
}

impl Device for RetryingDevice {
    fn info(&self) -> DeviceInfo {
        self.shared.below.info()
    }

    /// What has no positions goes on as it is: who knows how much of it was done.
    fn below(&self) -> Option<&dyn Device> {
        Some(&self.shared.below)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.shared.send(position, view, 1);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.shared.send(position, view, 1);
    }

    /// A part that failed may have been exchanged: nothing is tried again.
    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.shared.below.exchange(position, view);
    }

    /// Each attempt waits for room by itself.
    fn admission(&self) -> Option<&dyn Admission> {
        None
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }

    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::Waker
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.schedule.poll(cx)
    }
}

impl Statistics for RetryingDevice {
    fn statistics(&self, from: u64, figures: Records<Figure>) {
        figures.complete_from(
            from,
            [
                Figure::count("retried", self.shared.retried.load(Ordering::Relaxed)),
                Figure::count("given up", self.shared.gave_up.load(Ordering::Relaxed)),
            ],
        );
    }
}
