//! The parts that a plugin adds to its devices: a backend that opens them, and the macro that exports the backend.

mod backend;
mod export;
mod filter;
mod guarded;
#[cfg(feature = "tracing")]
mod log;
mod lower;
mod manifest;
mod values;

pub use backend::{Backend, OpenRequest};
#[doc(hidden)]
pub use export::__private;
pub use export::LinkedPlugin;
pub use filter::Filter;
pub use lower::Lower;
pub use manifest::{MANIFEST_FORM, MANIFEST_SECTION, OptionSpec, StaticManifest};
pub use values::{parse_duration, parse_size};
