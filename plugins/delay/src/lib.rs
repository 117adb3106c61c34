//! A filter that answers later: `file:/data/image | delay?latency=10ms&jitter=5ms`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pactio_plugin_schedule::{Request, Schedule, mix, take_requests};
use pactio_sdk::{Admission, Backend, Below, Device, DeviceInfo, OpenError, OpenRequest, OptionSpec};

struct Delay;

struct DelayedDevice {
    below: Below,
    schedule: Schedule,
    latency: Duration,
    jitter: Duration,
    seed: u64,
    /// Requests so far.
    count: AtomicU64,
}

impl Backend for Delay {
    type Device = DelayedDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<DelayedDevice, OpenError> {
        Ok(DelayedDevice {
            below: request.below()?,
            schedule: Schedule::default(),
            latency: request.duration_option("latency")?.unwrap_or_default(),
            jitter: request.duration_option("jitter")?.unwrap_or_default(),
            seed: request.parsed_option::<i64>("seed", "a whole number")?.unwrap_or_default() as u64,
            count: AtomicU64::new(0),
        })
    }
}

impl DelayedDevice {
    fn take(&self, request: Request) {
        // Ordering: Relaxed. It is a number and orders nothing.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let part = mix(self.seed ^ mix(number)) as f64 / u64::MAX as f64;
        let when = Instant::now() + self.latency + self.jitter.mul_f64(part);
        let below = self.below.clone();
        self.schedule.at(when, move || request.send(&below));
    }
}

impl Device for DelayedDevice {
    fn info(&self) -> DeviceInfo {
        self.below.info()
    }

    fn below(&self) -> Option<&dyn Device> {
        Some(&self.below)
    }

    take_requests!();

    /// What is asked for now is sent later, when there may be no room.
    fn admission(&self) -> Option<&dyn Admission> {
        None
    }
}

pactio_sdk::export_plugin! {
    id: "delay",
    description: "answers later, for tests",
    schemes: ["delay"],
    options: [
        OptionSpec::duration("latency", "how much later").range("0s", "1h").default("10ms"),
        OptionSpec::duration("jitter", "up to so much more, at random").range("0s", "1h").default("0s"),
        OptionSpec::integer("seed", "begins the random numbers").default("1"),
    ],
    check: "memory:?size=100KiB | delay?latency=1ms&jitter=1ms",
    filter: Delay,
}
