//! Plugins: the search for files, the checks of a file, the loading of its library, and the outcome for each file.

mod entry;
mod examine;
mod loader;
mod log;
mod manifest;
mod options;
mod refusal;
mod registry;
mod sealed;
mod search;
mod spec;
mod trust;
mod version;

pub(crate) use loader::Lower;
pub use loader::Plugin;
pub(crate) use manifest::OPEN;
pub use manifest::{Door, Manifest};
pub use refusal::{Difference, Refusal};

use crate::RefusalKind;
pub use registry::{Candidate, Outcome};
pub(crate) use registry::{Policy, Registry};
pub(crate) use search::SearchPaths;
pub(crate) use spec::similar;
pub use spec::{OptionKind, PluginOption};
pub(crate) use trust::Trust;
