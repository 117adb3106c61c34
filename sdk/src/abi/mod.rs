//! Everything that crosses the boundary between host and plugin.
//!
//! Plugin authors do not need this module: [`Backend`](crate::Backend), [`BackendDevice`](crate::BackendDevice) and
//! [`export_plugin!`](crate::export_plugin) wrap it. Hosts use it.
//!
//! | item | direction | contract |
//! |------|-----------|----------|
//! | [`PluginEntry`] | plugin → host | the one exported symbol, plain data, read before any code runs |
//! | [`BackendObj`] | plugin → host | opens devices; any thread, may block for as long as opening takes |
//! | [`DeviceObj`] | plugin → host | answers views; any thread, any number at once, must not block |
//! | [`RawExtension`](crate::ext::RawExtension) | plugin → host | one [extension](crate::ext) of a device, valid while the device exists |
//! | [`ClosingTable`] | plugin → host | the last call of a device before its object is dropped; may block |
//! | [`CWaker`] | host → plugin | wakes a driver's poller; any thread |
//! | [`BoundPacketView`](crate::BoundPacketView) | both | a range that owes an answer; any thread |
//!
//! Memory is freed by the side that made it, through a function that travels with it. No function unwinds. A plugin's
//! library stays loaded for the life of the process.

mod backend_device;
mod calls;
#[cfg(feature = "plugin")]
mod closing;
mod device_request;
#[cfg(feature = "plugin")]
mod entry;
pub mod ext;
mod guarded;
#[cfg(feature = "plugin")]
mod log;
#[cfg(feature = "plugin")]
mod object;
#[cfg(feature = "plugin")]
mod opened;
#[cfg(feature = "plugin")]
mod opening;
#[cfg(feature = "plugin")]
mod remote;
#[cfg(feature = "plugin")]
mod request;
#[cfg(feature = "plugin")]
mod waker;

pub use backend_device::{BackendDevice, DeviceInfo, PollingHandle};
#[cfg(feature = "plugin")]
pub use closing::ClosingTable;
pub use device_request::{DeviceParam, DeviceRequest};
#[cfg(feature = "plugin")]
pub use entry::{
    ABI_MAJOR, ABI_MINOR, ABI_NEEDED_MINOR, CreateBackend, ENTRY_SYMBOL, FINGERPRINT, Layout, MAGIC,
    PluginEntry, StaticBytes,
};
#[cfg(feature = "plugin")]
pub(crate) use guarded::CallError;
pub(crate) use guarded::{DriverPoll, Guarded};
#[cfg(feature = "plugin")]
pub use log::{Attach, HostTable, RawRecord};
#[cfg(feature = "plugin")]
pub use object::{
    BackendIo, BackendObj, DeviceObj, DriverStatus, IoBackend, Library, RawDeviceInfo, RawPollingHandle,
    SendIo, host_device, send,
};
#[cfg(feature = "plugin")]
pub(crate) use object::{BackendIoBase, device_object};
#[cfg(feature = "plugin")]
pub use opened::Opened;
#[cfg(feature = "plugin")]
pub use opening::{OpenError, OpenMode};
#[cfg(feature = "plugin")]
pub use remote::Remote;
#[cfg(feature = "plugin")]
pub use request::{OpenFailure, OwnedText, RawOpenRequest, RawOption};
#[cfg(feature = "plugin")]
pub use waker::CWaker;
