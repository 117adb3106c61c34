//! What a plugin adds to its devices: a backend that opens them, and the macro that exports it.

mod backend;
mod export;
mod guarded;
mod manifest;

pub use backend::{Backend, OpenError, OpenMode, OpenRequest, parse_size};
#[doc(hidden)]
pub use export::__private;
pub(crate) use guarded::GuardedBackend;
pub use manifest::{MANIFEST_FORM, MANIFEST_SECTION, Manifest, OptionSpec};
