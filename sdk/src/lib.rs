//! The library that pactio plugins are built with.
//!
//! A plugin is a shared library with a **backend**; a backend opens **devices**; a device answers **views**, which are
//! ranges of requests. This crate has the packet system, the two traits to implement, and the macro that exports them.
//! A whole plugin:
//!
//! ```
//! use pactio_sdk::{Backend, BoundPacketView, BackendDevice, DeviceInfo, OpenError, OpenRequest, Read, Write};
//!
//! /// Opens devices that are full of one byte: `ones:255` or `ones:7`.
//! struct Ones;
//!
//! struct Constant(u8);
//!
//! impl Backend for Ones {
//!     type Device = Constant;
//!
//!     fn open(&self, request: &OpenRequest<'_>) -> Result<Constant, OpenError> {
//!         let byte = request.target().parse().map_err(|_| {
//!             OpenError::invalid_input(format!("'{}' is not a byte; try ones:255", request.target()))
//!         })?;
//!         Ok(Constant(byte))
//!     }
//! }
//!
//! impl BackendDevice for Constant {
//!     fn info(&self) -> DeviceInfo {
//!         DeviceInfo::endless().read_only()
//!     }
//!
//!     fn read(&self, _position: u64, view: BoundPacketView<Write>) {
//!         match view.try_alloc(1) {
//!             Ok(mut bytes) => {
//!                 bytes.unfilled_mut().fill(self.0);
//!                 bytes.advance(bytes.len());
//!                 bytes.complete();
//!             }
//!             Err(view) => {
//!                 let bytes = vec![self.0; view.len()];
//!                 view.transfer_data(&bytes).complete();
//!             }
//!         }
//!     }
//! }
//!
//! pactio_sdk::export_plugin! {
//!     id: "ones",
//!     description: "devices full of one byte",
//!     schemes: ["ones"],
//!     backend: Ones,
//! }
//! ```
//!
//! # Reading order
//!
//! [`first_plugin`] makes a plugin from nothing. [`guide`] is the packet system on one page. [`packet`] is the core, and [`io`]
//! is made of it. A plugin implements [`BackendDevice`] and [`Backend`]; [`LocalDevice`] is a device without a host. [`abi`] is
//! the interface at the boundary, for hosts.
//!
//! # Features
//!
//! | feature | adds |
//! |---------|----------------|
//! | `plugin` (default) | backends, the boundary, [`export_plugin!`] |
//! | `tracing` (default) | records and spans of `tracing` in a plugin get to its host |
//! | `std` | devices with drivers, blocking calls, file-like adapters, reuse of memory; part of `plugin` |
//! | none | packets, views and requests, on `alloc` alone |
//! | `tokio`, `smol` | drivers that wait for descriptors, for devices without a host |
//!
//! # Guarantees and limits
//!
//! No safe call causes undefined behaviour, even if values are dropped, forgotten or cancelled. Panics of a plugin are caught on
//! its side and fail the operations that they interrupt. A plugin itself is native code in the host's process and trusted with
//! everything: nothing protects a host from a plugin that is malicious or that breaks its own `unsafe` promises.

#![deny(missing_docs)]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod error;
#[cfg(feature = "plugin")]
mod fingerprint;
mod firewall;
#[cfg(feature = "plugin")]
mod origin;
mod sync;

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[cfg(feature = "plugin")]
#[doc = include_str!("../docs/plugin.md")]
pub mod first_plugin {}

pub mod packet;

pub mod io;

// For the host and the macros alone: the module changes with each version of the ABI.
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod abi;
#[cfg(feature = "std")]
mod device;
#[cfg(feature = "plugin")]
mod plugin;

pub use error::{Cause, Code, IoError, Location, State, Subject};
pub use packet::*;

pub use io::{
    Batch, Exact, Io, IoExchange, IoRead, IoWrite, NoPos, PacketIo, PacketIoExt, Param, StreamIoExt,
    StreamRead, StreamWrite, Submission, VectoredIo,
};
#[cfg(feature = "std")]
pub use io::{BlockOn, BlockingIo, Seekable, Size, scope};

#[cfg(feature = "std")]
#[doc(inline)]
pub use abi::ext;
#[cfg(feature = "std")]
pub use abi::{BackendDevice, DeviceInfo, PollingHandle};
#[cfg(feature = "plugin")]
pub use abi::{OpenError, OpenMode, Opened};
#[cfg(feature = "std")]
pub use device::{
    Counts, Driven, First, InFlight, LocalDevice, LocalDriver, RequestKind, Requests, UrgencyQueue, Urgent,
};
#[cfg(feature = "std")]
pub use ext::{
    Admission, Answer, Cancellation, Capability, Change, ChangeKind, CopyFile, CreateFile, CreateFolder,
    Describe, Entry, ExtensionQuery, Flush, FlushScope, Identity, Kind, Limiting, Limits, Listing, Mapping,
    MemoryRange, Metric, Name, Origin, Provenance, Publish, ReadNow, Record, Records, Refusals, Refused,
    Region, Registration, Remove, Rename, RenameMode, Resize, SetStat, Stat, Statistics, Unit, Watch, Zero,
    ZeroMode, extension_of, read_records,
};

#[cfg(feature = "plugin")]
pub use ext::{ChangeLog, ListCursors, Opening, Tree, TreeDevice, Watching};
#[cfg(feature = "plugin")]
#[doc(hidden)]
pub use plugin::__private;
#[cfg(feature = "plugin")]
pub use plugin::{
    Backend, Filter, LinkedPlugin, Lower, MANIFEST_FORM, MANIFEST_SECTION, OpenRequest, OptionSpec,
    StaticManifest, parse_duration, parse_size,
};

/// A read request's view: the device writes to the packet, which gives the permission its name.
pub type ReadView = BoundPacketView<Write>;
/// A write request's view: the device reads from the packet.
pub type WriteView = BoundPacketView<Read>;
/// An exchange's view: the device reads and writes.
pub type ExchangeView = BoundPacketView<ReadWrite>;
/// A batch of read requests at positions.
pub type ReadBatch<'a> = Batch<'a, Write, u64>;
/// A batch of write requests at positions.
pub type WriteBatch<'a> = Batch<'a, Read, u64>;

/// Types that may cross the boundary: those with a known layout, where layouts are compared.
#[cfg(feature = "layout-check")]
use abi_stable::StableAbi as Crossing;

#[cfg(not(feature = "layout-check"))]
mod crossing {
    /// Types that may cross the boundary: all types, where no layouts are compared.
    pub trait Crossing {}
    impl<T> Crossing for T {}
}
#[cfg(not(feature = "layout-check"))]
use crossing::Crossing;
