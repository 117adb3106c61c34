//! Extensions: optional interfaces of a device, beyond reading and writing. One file each.
//!
//! A device [offers](ExtensionQuery::offer) the extensions that it has, which may be none. A host finds each by its id and
//! version:
//!
//! | trait | id | for |
//! |-------|----|-----|
//! | [`Cancellation`] | `pactio.cancellation/1` | cancelled requests end soon |
//! | [`Admission`] | `pactio.admission/1` | requests wait with the caller while the device is full |
//! | [`Limiting`] | `pactio.limits/1` | alignment, largest request, requests in flight |
//! | [`ReadNow`] | `pactio.read-now/1` | reads of bytes at hand make no request |
//! | [`Registration`] | `pactio.memory/1` | memory that is registered before requests use it |
//! | [`Describe`] | `pactio.stat/1` | kind, size, times, identity, version of the bytes |
//! | [`Flush`] | `pactio.flush/1` | pending writes become durable |
//! | [`Publish`] | `pactio.publish/1` | written bytes become visible as a whole |
//! | [`Resize`] | `pactio.resize/1` | the size changes |
//! | [`Zero`] | `pactio.zero/1` | a range reads as zeros |
//! | [`Mapping`] | `pactio.map/2` | the ranges of positions that exist |
//! | [`Listing`] | `pactio.list/2` | the names in a folder |
//! | `Opening` | `pactio.open/2` | opening a name |
//! | [`Remove`] | `pactio.remove/1` | names are removed |
//! | [`Rename`] | `pactio.rename/1` | names are changed |
//! | [`CopyFile`] | `pactio.copy-file/1` | files are copied within a tree |
//! | [`CreateFile`] | `pactio.create-file/1` | files are made, if absent |
//! | [`CreateFolder`] | `pactio.create-folder/1` | folders are made |
//! | [`SetStat`] | `pactio.set-stat/1` | metadata is set |
//! | [`Watch`] | `pactio.watch/1` | changes of names are told |
//! | [`Provenance`] | `pactio.provenance/2` | where a name comes from |
//! | [`Refusals`] | `pactio.refused/1` | entries that a tree hides, with the reason |
//! | [`Statistics`] | `pactio.statistics/2` | numbers that the device counts |
//!
//! # Adding one
//!
//! 1. A file in this folder, such as `flush.rs`: the trait, its docs, a [`Capability`] constant, and either [`Operation`] (one
//!    method that may be answered later, as in most extensions) or [`Extension`] with a table of its own; both sides of the
//!    boundary; tests.
//! 2. One line in the list below, and one in the table above.
//!
//! Code outside of this folder names an extension only where it uses its functions, such as admission before a request. All other
//! code follows from the list: the look-up, filters that forward an extension, a host's capabilities, and a host's devices for
//! filters. A new version of a table that does more than add functions at the end gets a new id.

/// Implements [`Extension`] for an extension with a table of its own, whose functions for a device are `TableOf::<D>::TABLE`.
macro_rules! with_table {
    ($extension:ident, $capability:ident, $table:ident) => {
        impl super::Extension for dyn $extension {
            const CAPABILITY: Capability = Capability::$capability;

            #[cfg(feature = "plugin")]
            type Table = $table;

            #[cfg(feature = "plugin")]
            fn table<D: BackendDevice>() -> &'static $table {
                &TableOf::<D>::TABLE
            }

            #[cfg(feature = "plugin")]
            fn of_remote(remote: &RemoteExtension<Self>) -> &Self {
                remote
            }
        }
    };
}

/// Implements [`Operation`] for an extension whose one method takes a name, and gives an answer without bytes.
macro_rules! operation_on_name {
    ($extension:ident, $capability:ident, $method:ident) => {
        impl super::Operation for dyn $extension {
            const OPERATION: Capability = Capability::$capability;

            fn operate(&self, _: u64, text: &[u8], view: crate::BoundPacketView<crate::Write>) {
                self.$method(text, Answer::new(view));
            }

            #[cfg(feature = "plugin")]
            fn of<T: super::Operates<Self> + 'static>(operates: &T) -> &Self {
                operates
            }
        }

        #[cfg(feature = "plugin")]
        impl<T: super::Operates<dyn $extension> + ?Sized> $extension for T {
            fn $method(&self, name: &[u8], answer: Answer) {
                self.operate(0, name, answer.into_view());
            }
        }
    };
}

/// Implements [`Operation`] for an extension whose one method gives records from a cursor on.
macro_rules! operation_of_records {
    ($extension:ident, $capability:ident, $method:ident, $record:ty) => {
        impl super::Operation for dyn $extension {
            const OPERATION: Capability = Capability::$capability;

            fn operate(&self, number: u64, _: &[u8], view: crate::BoundPacketView<crate::Write>) {
                self.$method(number, Records::new(view));
            }

            #[cfg(feature = "plugin")]
            fn of<T: super::Operates<Self> + 'static>(operates: &T) -> &Self {
                operates
            }
        }

        #[cfg(feature = "plugin")]
        impl<T: super::Operates<dyn $extension> + ?Sized> $extension for T {
            fn $method(&self, from: u64, records: Records<$record>) {
                self.operate(from, &[], records.into_view());
            }
        }
    };
}

/// Implements [`Operation`] for an extension whose one method gives the name `to` the file of the name `from`.
macro_rules! operation_on_two_names {
    ($extension:ident, $capability:ident, $method:ident) => {
        impl super::Operation for dyn $extension {
            const OPERATION: Capability = Capability::$capability;

            fn operate(&self, number: u64, text: &[u8], view: crate::BoundPacketView<crate::Write>) {
                match (RenameMode::from_raw(number), super::rename::both_names(text)) {
                    (None, _) => view.error(crate::IoError::UNSUPPORTED),
                    (_, None) => view.error(crate::IoError::from_code(crate::Code::INVALID_INPUT)),
                    (Some(mode), Some((from, to))) => self.$method(from, to, mode, Answer::new(view)),
                }
            }

            #[cfg(feature = "plugin")]
            fn of<T: super::Operates<Self> + 'static>(operates: &T) -> &Self {
                operates
            }
        }

        #[cfg(feature = "plugin")]
        impl<T: super::Operates<dyn $extension> + ?Sized> $extension for T {
            fn $method(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
                // Names have no zero byte.
                self.operate(mode.to_raw(), &[from, &[0], to].concat(), answer.into_view());
            }
        }
    };
}

mod admission;
mod answer;
mod cancellation;
#[cfg(feature = "plugin")]
mod changes;
mod copy_file;
mod create_file;
mod create_folder;
#[cfg(feature = "plugin")]
mod cursors;
mod extension;
mod field;
mod flush;
mod limits;
mod list;
mod map;
mod memory;
mod name;
#[cfg(feature = "plugin")]
mod open;
mod provenance;
mod publish;
mod query;
mod read_now;
mod record;
mod refused;
mod remove;
mod rename;
mod resize;
mod set_stat;
mod stat;
mod statistics;
#[cfg(feature = "plugin")]
mod tree;
mod watch;
mod zero;

pub use admission::Admission;
pub use answer::Answer;
pub use cancellation::Cancellation;
#[cfg(feature = "plugin")]
pub use changes::{ChangeLog, Watching};
pub use copy_file::CopyFile;
pub use create_file::CreateFile;
pub use create_folder::CreateFolder;
#[cfg(feature = "plugin")]
pub use cursors::ListCursors;
#[cfg(feature = "plugin")]
pub(crate) use extension::extension as find_for_other_side;
pub use extension::{Capability, Extension, Operation};
#[cfg(feature = "plugin")]
#[doc(hidden)]
pub use extension::{Operates, OperationTable, RawExtension, Relay, RemoteExtension};
pub use field::{Fields, FieldsOf};
pub use flush::{Flush, FlushScope};
pub use limits::{Limiting, Limits};
pub use list::Listing;
pub use map::Mapping;
pub use memory::{MemoryRange, Registration};
pub use name::Name;
#[cfg(feature = "plugin")]
pub use open::Opening;
pub use provenance::Provenance;
pub use publish::Publish;
#[doc(hidden)]
pub use publish::publication;
pub use query::{ExtensionQuery, extension_of};
pub use read_now::ReadNow;
pub use record::{Entry, Metric, Origin, Record, Records, Refused, Region, Unit, read_records};
pub use refused::Refusals;
pub use remove::Remove;
pub use rename::{Rename, RenameMode};
pub use resize::Resize;
pub use set_stat::SetStat;
#[doc(hidden)]
pub use set_stat::stat_of_name;
pub use stat::{Describe, Identity, Kind, Stat};
pub use statistics::Statistics;
#[cfg(feature = "plugin")]
pub use tree::{Tree, TreeDevice};
pub use watch::{Change, ChangeKind, Watch};
pub use zero::{Zero, ZeroMode};

/// Makes the list of extensions: the place of each, and calls with an extension that is found by its place or id.
macro_rules! extensions {
    ($($(#[$condition:meta])? $name:ident,)*) => {
        /// The places of all extensions in the list.
        enum Place { $($(#[$condition])? $name,)* }

        /// Number of extensions.
        #[cfg(feature = "plugin")]
        pub(crate) const COUNT: usize = EXTENSIONS.len();

        $(
            $(#[$condition])?
            impl sealed::Sealed for dyn $name {}
            $(#[$condition])?
            impl Listed for dyn $name {
                const INDEX: usize = Place::$name as usize;
            }
        )*

        /// All extensions.
        pub const EXTENSIONS: &[Capability] = &[$($(#[$condition])? <dyn $name>::CAPABILITY,)*];

        /// Makes the call with the extension that has this id.
        #[cfg(feature = "plugin")]
        pub(crate) fn ask_by_id<C: CallExtension>(id: &[u8], call: C) -> Option<C::Output> {
            $(
                if id == <dyn $name>::CAPABILITY.id().as_bytes() {
                    return Some(call.call::<dyn $name>());
                }
            )*
            None
        }

        /// Makes the call with the extension at this place.
        #[cfg(feature = "plugin")]
        pub(crate) fn ask_by_index<C: CallExtension>(index: usize, call: C) -> Option<C::Output> {
            $(
                if index == <dyn $name>::INDEX {
                    return Some(call.call::<dyn $name>());
                }
            )*
            None
        }
    };
}

#[cfg(feature = "plugin")]
pub(crate) use extension::CallExtension;

mod sealed {
    pub trait Sealed {}
}

/// An extension of the list. The trait is sealed: all extensions are in this crate, and each has a place of its own, on which
/// [`ExtensionQuery::offer`] relies.
pub trait Listed: sealed::Sealed {
    /// The place in the list.
    #[doc(hidden)]
    const INDEX: usize;
}

// The list.
extensions! {
    Cancellation,
    Admission,
    Limiting,
    ReadNow,
    Registration,
    Describe,
    Flush,
    Publish,
    Resize,
    Zero,
    Mapping,
    Listing,
    #[cfg(feature = "plugin")]
    Opening,
    Remove,
    Rename,
    CopyFile,
    SetStat,
    Watch,
    CreateFile,
    CreateFolder,
    Provenance,
    Refusals,
    Statistics,
}
