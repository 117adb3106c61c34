//! The parts that a plugin adds to its devices: a backend that opens them, and the macro that exports the backend.

mod backend;
mod export;
mod filter;
mod guarded;
#[cfg(feature = "tracing")]
mod log;
mod lower;
mod manifest;
mod opened;
mod values;

pub use backend::{Backend, OpenError, OpenMode, OpenRequest};
#[doc(hidden)]
pub use export::__private;
pub use export::LinkedPlugin;
#[cfg(not(any(pactio_loom, pactio_shuttle)))]
pub(crate) use export::own_id;
pub use filter::Filter;
pub(crate) use guarded::GuardedBackend;
pub use lower::Lower;
pub use manifest::{MANIFEST_FORM, MANIFEST_SECTION, OptionSpec, StaticManifest};
pub use opened::Opened;
pub use values::{parse_duration, parse_size};
