//! Plugins: where they are looked for, what makes a file one, how it is loaded, and what became of each.

mod candidate;
mod loader;
mod registry;
mod search;

pub use loader::{Plugin, PluginInfo};
pub(crate) use registry::Registry;
pub use registry::{Candidate, Outcome, Refusal, RefusalKind};
pub(crate) use search::SearchPaths;
