//! What a plugin implements: a backend that opens devices, and devices that answer views.

mod backend;
mod device;
mod export;
mod guarded;

pub use backend::{Backend, OpenError, OpenMode, OpenRequest, parse_size};
pub use device::{Device, DeviceInfo, PollingHandle};
#[doc(hidden)]
pub use export::__private;
pub(crate) use guarded::{Guarded, GuardedBackend};
