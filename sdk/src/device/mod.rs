//! Devices that drivers and queues are built for, and devices without a host.

mod counts;
#[cfg(all(unix, any(feature = "tokio", feature = "smol")))]
mod descriptor;
mod driven;
mod drivers;
mod local;
mod urgency_queue;

pub use counts::{Counts, InFlight, RequestKind};
pub use driven::{Driven, Requests};
pub use local::{LocalDevice, LocalDriver};
pub use urgency_queue::{First, UrgencyQueue, Urgent};
