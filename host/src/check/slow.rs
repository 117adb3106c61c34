//! A filter that can hold its reads back, so that a case can cancel them behind the filter that is checked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pactio_sdk::{
    Backend, BackendDevice, BoundPacketView, Cancellation, Capability, DeviceInfo, ExtensionQuery, IoError,
    Lower, OpenError, OpenRequest, PacketIo, Read, ReadWrite, RequestId, Write,
};

/// The name of the filter.
pub(super) const SCHEME: &str = "slow";

/// How long a read is held back, if it is not cancelled.
const DELAY: Duration = Duration::from_secs(30);

/// Whether reads are held back, in the process of the case.
static HOLDS: AtomicBool = AtomicBool::new(false);

struct Slow;

struct SlowDevice {
    below: Lower,
    held: Arc<Mutex<Vec<Held>>>,
}

struct Held {
    position: u64,
    view: BoundPacketView<Write>,
    since: Instant,
}

/// Holds reads back until the value is dropped.
pub(super) struct Holding;

impl Holding {
    pub(super) fn begin() -> Self {
        // Ordering: Relaxed. The flag guards no data.
        HOLDS.store(true, Ordering::Relaxed);
        Self
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HOLDS.store(false, Ordering::Relaxed);
    }
}

fn lock(held: &Mutex<Vec<Held>>) -> MutexGuard<'_, Vec<Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend for Slow {
    type Device = SlowDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<SlowDevice, OpenError> {
        let held = Arc::new(Mutex::new(Vec::<Held>::new()));
        let device = SlowDevice { below: request.lower()?, held: held.clone() };
        let (weak, below) = (Arc::downgrade(&held), device.below.clone());
        drop(held);
        thread::spawn(move || {
            while let Some(held) = weak.upgrade() {
                let late: Vec<_> = lock(&held).extract_if(.., |held| held.since.elapsed() > DELAY).collect();
                drop(held);
                late.into_iter().for_each(|Held { position, view, .. }| below.send_io(position, view));
                thread::sleep(Duration::from_millis(50));
            }
        });
        Ok(device)
    }
}

impl BackendDevice for SlowDevice {
    fn info(&self) -> DeviceInfo {
        self.below.info()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        if HOLDS.load(Ordering::Relaxed) {
            lock(&self.held).push(Held { position, view, since: Instant::now() });
        } else {
            self.below.send_io(position, view);
        }
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.below.send_io(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.below.send_io(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        // Views keep their request and their length, so the extensions of the device below fit.
        match query.capability() {
            Capability::CANCELLATION => drop(query.offer::<dyn Cancellation>(self)),
            // No read is at hand here.
            Capability::READ_NOW => {}
            _ => self.below.extensions(query),
        }
    }
}

impl Cancellation for SlowDevice {
    fn cancel(&self, request: RequestId) {
        let cancelled: Vec<_> =
            lock(&self.held).extract_if(.., |held| held.view.request() == request).collect();
        cancelled.into_iter().for_each(|held| held.view.error(IoError::CANCELLED));
        self.below.cancel(request);
    }
}

pactio_sdk::plugin! {
    id: "pactio-check-slow",
    description: "holds reads back, for the conformance suite",
    schemes: ["slow"],
    filter: Slow,
}
