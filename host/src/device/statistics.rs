//! Statistics of the devices of a host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pactio_sdk::{Capability, Counts, Metric, PacketBox, RequestKind, Write, read_records};

use super::{Device, Health, Shared};

/// Number of closed devices that are remembered.
const MAX_CLOSED: usize = 1000;

/// Statistics of all devices of a host, in the order in which the devices were opened.
#[derive(Default)]
pub(crate) struct Statistics(Mutex<Vec<Arc<CountedDevice>>>);

/// Statistics of one device.
pub(super) struct CountedDevice {
    url: String,
    plugin: String,
    counts: Counts,
    device: Weak<Shared>,
    /// The device's own figures at the time of its closing.
    last: Mutex<Vec<Metric>>,
}

/// Statistics of one device: see [`Host::statistics`](crate::Host::statistics).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceStatistics {
    /// The URL of the device; of a filter, with the URL of the device below.
    pub url: String,
    /// The plugin.
    pub plugin: String,
    /// Requests, bytes, errors and times, as the host has seen them.
    pub counted: Vec<Metric>,
    /// The figures that the plugin counts itself.
    pub of_plugin: Vec<Metric>,
}

/// A request that is not answered yet: see [`Host::in_flight`](crate::Host::in_flight).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestInFlight {
    /// The URL of the device or filter that has the request. A filter's own requests are listed with the device below, too.
    pub url: String,
    /// The plugin.
    pub plugin: String,
    /// The kind of the request.
    pub kind: RequestKind,
    /// Its length in bytes.
    pub len: usize,
    /// The time since the request came to the device.
    pub age: Duration,
    /// The health of the device; `None` if it was closed.
    pub health: Option<Health>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Statistics {
    /// Adds the entry of a device that was just opened, and removes the oldest entries of closed devices beyond
    /// [`MAX_CLOSED`].
    pub(super) fn begin(
        &self,
        url: &str,
        plugin: &str,
        counts: Counts,
        device: Weak<Shared>,
    ) -> Arc<CountedDevice> {
        let (url, plugin) = (url.to_owned(), plugin.to_owned());
        let entry = Arc::new(CountedDevice { url, plugin, counts, device, last: Mutex::default() });
        let mut entries = lock(&self.0);
        let closed = entries.iter().filter(|entry| entry.device.strong_count() == 0).count();
        let mut surplus = closed.saturating_sub(MAX_CLOSED);
        // The list is in the order of opening, so the closed devices that were opened first are removed.
        entries.retain(|entry| {
            let goes = surplus > 0 && entry.device.strong_count() == 0;
            surplus -= usize::from(goes);
            !goes
        });
        entries.push(entry.clone());
        entry
    }

    /// The requests of all devices that are not answered yet, the oldest first.
    pub(crate) fn in_flight(&self) -> Vec<RequestInFlight> {
        // A copy, since `health` calls the plugin, which happens without the lock.
        let entries = lock(&self.0).clone();
        let mut all: Vec<RequestInFlight> = entries
            .iter()
            .flat_map(|entry| {
                let health = entry.device.upgrade().map(|shared| Device(shared).health());
                entry.counts.in_flight().into_iter().map(move |request| RequestInFlight {
                    url: entry.url.clone(),
                    plugin: entry.plugin.clone(),
                    kind: request.kind,
                    len: request.len,
                    age: request.since.elapsed(),
                    health,
                })
            })
            .collect();
        all.sort_by_key(|request| std::cmp::Reverse(request.age));
        all
    }

    /// The statistics of all devices. The plugin's figures of a closed device are those of the time of its closing.
    pub(crate) fn all(&self) -> Vec<DeviceStatistics> {
        // A copy, since `figures_now` calls the plugin, which happens without the lock.
        let entries = lock(&self.0).clone();
        let of = |entry: Arc<CountedDevice>| DeviceStatistics {
            url: entry.url.clone(),
            plugin: entry.plugin.clone(),
            counted: entry.counts.figures(),
            of_plugin: match entry.device.upgrade() {
                Some(device) => device.figures_now(),
                None => lock(&entry.last).clone(),
            },
        };
        entries.into_iter().map(of).collect()
    }
}

impl CountedDevice {
    /// The device is about to be closed.
    pub(super) fn end(&self, device: &Shared) {
        *lock(&self.last) = device.figures_now();
    }
}

/// Size of the memory for the figures of a device.
const FIGURES_BYTES: usize = 1 << 14;

impl Shared {
    /// The device's own figures, if it answers at once, as devices that only look at their counts do. Otherwise, and if the
    /// device takes no requests, the packet has no bytes, and there are none.
    fn figures_now(&self) -> Vec<Metric> {
        if !self.remote.has(Capability::STATISTICS) {
            return Vec::new();
        }
        let figures = || {
            let mut packet = PacketBox::<Write>::new_buf(FIGURES_BYTES)?;
            let view = packet.bind()?;
            self.operate::<dyn pactio_sdk::Statistics>(0, &[], view);
            packet.simple_contiguous_slice().and_then(read_records::<Metric>)
        };
        figures().map(|(figures, _)| figures).unwrap_or_default()
    }
}
