//! What a plugin adds to its devices: a backend that opens them, and the macro that exports it.

mod backend;
mod below;
mod export;
mod guarded;
#[cfg(feature = "tracing")]
mod log;
mod manifest;
mod opened;
mod values;

pub use backend::{Backend, OpenError, OpenMode, OpenRequest};
pub use below::Below;
#[doc(hidden)]
pub use export::__private;
pub(crate) use guarded::GuardedBackend;
pub use manifest::{MANIFEST_FORM, MANIFEST_SECTION, Manifest, OptionSpec};
pub use opened::Opened;
pub use values::{parse_duration, parse_size};
