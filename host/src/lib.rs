//! Loads storage backends from shared libraries at run time, and drives their asynchronous I/O.
//!
//! A [`Host`] finds plugins, opens [`Device`]s by URL, and runs an executor. A program:
//!
//! ```no_run
//! use pactio::Host;
//!
//! # fn main() -> Result<(), pactio::Error> {
//! let host = Host::builder().build()?;
//! let device = host.open("file:/etc/hostname")?;
//!
//! host.block_on(async {
//!     let mut magic = [0; 4];
//!     device.read_exact_at(0, &mut magic).await?; // a plain buffer: copied once
//!     let block = device.read_exact_at(4, vec![0; 64]).await?; // an owned one: not copied
//!
//!     let (report, _) = device.read_at(0, vec![0; 1 << 20]).await?; // the bytes that exist, and an exact account
//!     println!("{report}");
//!     # let _ = block;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Polling
//!
//! Devices answer at once, from threads of their own, or from a *driver*, which must be polled. [`Host::block_on`] polls drivers
//! on its own thread, futures poll them when another executor polls the futures, and a thread of the host polls the remaining
//! drivers. So the futures of a device work under any executor.
//!
//! Requests that a task makes together, such as with `join_all`, reach a device with a driver in one call. A request waits for
//! others until its task is pending; under an executor other than the host's, until the task is polled again. A future may end on
//! another thread than it began on.
//!
//! # Requests in flight
//!
//! A request owns its memory. Dropping its future detaches the request: the device goes on, and the memory is freed by its last
//! user. A [`Device`] may outlive its [`Host`]; a plugin's library stays loaded until the process ends.
//!
//! # Plugins in the process
//!
//! A plugin runs in the process of its host. A call that does not return holds up its own device alone: see [`Health::Hangs`]. A
//! plugin that calls `exit` ends the process, as any library can. To report that, a program calls [`device_in_call`] in a
//! function of `atexit`. A call of `_exit` or a crash cannot be reported in this way.
//!
//! A process that is forked off has none of the host's threads. There, devices and hosts of the parent fail with an error, and a
//! new host can be made. A fork that starts another program is not affected.
//!
//! # Reading order
//!
//! `url`, `profiles`, `plugin` (`search`, `candidate`, `manifest`, `spec`, `options`, `registry`, `loader`), `host`, `device`
//! (`request`, `typed`, `blocking`), `executor` (`runtime`, `driver`, `local`).

#![deny(missing_docs)]

#[cfg(feature = "check")]
pub mod check;
mod device;
mod door;
mod error;
mod executor;
mod gauges;
mod host;
mod plugin;
mod resources;
mod streamer;
mod sync;
mod task;
mod url;

pub use device::{
    Buffer, BufferPool, Capabilities, Changes, Device, DeviceStatistics, ExactRequest, Health, ListPages,
    Named, OpenOptions, Opening, PartialRequest, ReadValue, RequestInFlight, WriteValue, device_in_call,
};
#[doc(hidden)]
pub use door::layout as door_layout;
pub use error::{Error, ErrorKind, RefusalKind};
pub use gauges::Bounded;
pub use host::{Host, HostBuilder, LiveDevice, Scope, Scoped};
pub use pactio_sdk::{
    Attributes, Capability, Cause, Change, ChangeKind, Code, DeviceInfo, Entry, Identity, IntoPacket,
    IoError, KeptPacket, Kind, Limits, LinkedPlugin, Metric, Name, Origin, PacketBox, Refused, Region,
    RenameMode, Report, RequestKind, Seekable, StableBytes, Stat, Unit, ZeroMode, parse_duration, parse_size,
};
pub use plugin::{Candidate, Difference, Door, Manifest, OptionKind, Outcome, Plugin, PluginOption, Refusal};
pub use resources::Resources;
pub use streamer::{Done, Progress, Streamer, Ticket, Urgency};
pub use task::Task;
pub use url::Url;

/// A read request, in bounds such as `B: IntoPacket<ReadRequest>`: the device writes its bytes. `pactio_sdk` calls the permission
/// [`Write`](pactio_sdk::Write).
pub type ReadRequest = pactio_sdk::Write;

/// A write request: the device reads its bytes. `pactio_sdk` calls the permission [`Read`](pactio_sdk::Read).
pub type WriteRequest = pactio_sdk::Read;

/// A request that exchanges its bytes with those of the device: [`ReadWrite`](pactio_sdk::ReadWrite) in `pactio_sdk`.
pub type ExchangeRequest = pactio_sdk::ReadWrite;
