//! Plugins: where they are looked for, what makes a file one, how it is loaded, and what became of each.

mod candidate;
mod entry;
mod loader;
mod manifest;
mod refusal;
mod registry;
mod search;
mod value;

pub use loader::Plugin;
pub use manifest::{Manifest, OptionKind, OptionSpec};
pub use refusal::{Difference, Refusal, RefusalKind};
pub(crate) use registry::Registry;
pub use registry::{Candidate, Outcome};
pub(crate) use search::SearchPaths;
pub(crate) use value::similar;
