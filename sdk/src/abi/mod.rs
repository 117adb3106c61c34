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

mod closing;
mod entry;
mod fingerprint;
mod log;
mod object;
mod remote;
mod request;
mod waker;

pub use closing::ClosingTable;
pub use entry::{
    ABI_MAJOR, ABI_MINOR, CreateBackend, ENTRY_SYMBOL, FINGERPRINT, Layout, MAGIC, PluginEntry, StaticBytes,
};
pub(crate) use fingerprint::{Fingerprint, fingerprint_struct};
pub use log::{Attach, HostTable, RawRecord};
pub use object::{
    BackendIo, BackendObj, DeviceObj, DriverStatus, IoBackend, Library, RawDeviceInfo, RawPollingHandle,
    SendIo, host_device, send,
};
pub(crate) use object::{backend_object, device_object};
pub use remote::Remote;
pub use request::{OpenFailure, OwnedText, RawOpenRequest, RawOption};
pub use waker::CWaker;
