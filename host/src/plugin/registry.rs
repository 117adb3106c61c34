//! What became of every file that could be a plugin.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::candidate;
use super::loader::{self, Plugin};
use super::search::{PATH_VARIABLE, SearchPaths};
use crate::{Error, ErrorKind, Url};

/// A file that was found where plugins are looked for.
#[derive(Debug)]
pub struct Candidate {
    path: PathBuf,
    outcome: Outcome,
}

/// What became of a [`Candidate`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is loaded.
    Loaded(Arc<Plugin>),
    /// It was not loaded, and this is why.
    Refused(Refusal),
}

impl Candidate {
    /// Looks at one file, wherever it is, and loads it if it is a plugin.
    ///
    /// ```
    /// let candidate = pactio::Candidate::of_file("/etc/hostname");
    /// assert_eq!(candidate.refusal().unwrap().kind(), pactio::RefusalKind::NotALibrary);
    /// ```
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        let mut registry = Registry { paths: SearchPaths::default(), candidates: Vec::new() };
        registry.add(path.into());
        registry.candidates.remove(0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What became of it.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The plugin, if it is loaded.
    pub fn plugin(&self) -> Option<&Arc<Plugin>> {
        match &self.outcome {
            Outcome::Loaded(plugin) => Some(plugin),
            Outcome::Refused(_) => None,
        }
    }

    /// Why it was refused, if it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Loaded(_) => None,
            Outcome::Refused(refusal) => Some(refusal),
        }
    }
}

/// Why a file was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    message: String,
}

/// The step at which a file was refused. Nothing behind that step was trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The file cannot be read.
    Unreadable,
    /// It is not a shared library of this system and architecture.
    NotALibrary,
    /// It has no entry symbol, so it is not a pactio plugin.
    NoEntry,
    /// Its entry is not what it should be.
    Damaged,
    /// It was built for another version of the ABI.
    AbiVersion,
    /// It was built for this version of the ABI, but its boundary differs.
    Fingerprint,
    /// The memory layout of a boundary type differs.
    Layout,
    /// The system could not load it.
    CannotLoad,
    /// Its code failed while it was set up.
    Setup,
    /// Another file with the same plugin id was found before.
    Duplicate,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The step at which the file was refused.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// All candidates of the search paths.
#[derive(Debug)]
pub(crate) struct Registry {
    paths: SearchPaths,
    candidates: Vec<Candidate>,
}

impl Registry {
    /// Looks at every file in the search paths. One bad file never hides the others.
    pub(crate) fn scan(paths: SearchPaths) -> Self {
        let mut registry = Self { paths: SearchPaths::default(), candidates: Vec::new() };
        for folder in paths.iter() {
            for path in candidate::files(folder) {
                registry.add(path);
            }
        }
        registry.paths = paths;
        registry
    }

    fn add(&mut self, path: PathBuf) {
        let outcome = match self.load(&path) {
            Ok(plugin) => {
                tracing::debug!(plugin = plugin.info().id.as_str(), path = %path.display(), "loaded");
                Outcome::Loaded(plugin)
            }
            Err(refusal) => {
                // Most files beside plugins are no plugins: that is no news.
                if refusal.kind == RefusalKind::NoEntry {
                    tracing::trace!(path = %path.display(), "{refusal}");
                } else {
                    tracing::warn!(path = %path.display(), "refused: {refusal}");
                }
                Outcome::Refused(refusal)
            }
        };
        self.candidates.push(Candidate { path, outcome });
    }

    fn load(&self, path: &Path) -> Result<Arc<Plugin>, Refusal> {
        candidate::check(path)?;
        let plugin = loader::load(path)?;
        match self.plugins().find(|earlier| earlier.info().id == plugin.info().id) {
            None => Ok(Arc::new(plugin)),
            Some(earlier) => Err(Refusal::new(
                RefusalKind::Duplicate,
                format!(
                    "its plugin id '{}' is taken by {}, which was found first",
                    plugin.info().id,
                    earlier.path().display()
                ),
            )),
        }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    pub(crate) fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.candidates.iter().filter_map(Candidate::plugin)
    }

    /// The plugin for a URL: the first that has its scheme.
    pub(crate) fn plugin_for(&self, url: &Url) -> Result<&Arc<Plugin>, Error> {
        let has_scheme =
            |plugin: &&Arc<Plugin>| plugin.info().schemes.iter().any(|scheme| scheme == url.scheme());
        self.plugins().find(has_scheme).ok_or_else(|| self.unknown_scheme(url.scheme()))
    }

    /// Says what exists and where was searched.
    fn unknown_scheme(&self, scheme: &str) -> Error {
        let mut schemes: Vec<&str> =
            self.plugins().flat_map(|plugin| plugin.info().schemes.iter().map(String::as_str)).collect();
        schemes.sort_unstable();
        let mut message = format!("no plugin has the scheme '{scheme}'");
        match schemes.as_slice() {
            [] => message.push_str("; no plugin is loaded"),
            schemes => message.push_str(&format!("; those that exist are: {}", schemes.join(", "))),
        }
        message.push_str("\nsearched:");
        for folder in self.paths.iter() {
            message.push_str(&format!("\n  {}: {}", folder.display(), self.found_in(folder)));
        }
        Error::new(ErrorKind::UnknownScheme, message).with_hint(format!(
            "put the plugin's .so into one of these folders, or name its folder in {PATH_VARIABLE}"
        ))
    }

    /// What was found in a folder, in words.
    fn found_in(&self, folder: &Path) -> String {
        match std::fs::read_dir(folder) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return "does not exist".to_owned(),
            Err(error) => return format!("cannot be read: {error}"),
        }
        let found: Vec<&Candidate> =
            self.candidates.iter().filter(|candidate| candidate.path.parent() == Some(folder)).collect();
        let mut words = Vec::new();
        for candidate in &found {
            let name = candidate.path.file_name().unwrap_or_default().display();
            match &candidate.outcome {
                Outcome::Loaded(plugin) => {
                    words.push(format!("{name} ({})", plugin.info().schemes.join(", ")))
                }
                Outcome::Refused(refusal) if refusal.kind == RefusalKind::NoEntry => {}
                Outcome::Refused(refusal) => words.push(format!("{name} refused: {refusal}")),
            }
        }
        let others =
            found.iter().filter(|c| c.refusal().is_some_and(|r| r.kind == RefusalKind::NoEntry)).count();
        if others > 0 {
            words.push(format!("{others} other libraries"));
        }
        if words.is_empty() { "no libraries".to_owned() } else { words.join("; ") }
    }
}
