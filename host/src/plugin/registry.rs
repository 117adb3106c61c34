//! The outcome for every file that could be a plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pactio_sdk::LinkedPlugin;

use super::examine;
use super::search::{PATH_VARIABLE, SearchPaths};
use super::spec::similar;
use super::trust::{self, Trust};
use super::{Plugin, Refusal, RefusalKind};
use crate::{Error, ErrorKind};

/// A file that was found in the search paths.
#[derive(Clone, Debug)]
pub struct Candidate {
    path: PathBuf,
    outcome: Outcome,
}

/// The outcome for a [`Candidate`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The file is a plugin for this host. It is loaded when its first device is opened.
    Found(Arc<Plugin>),
    /// The file is refused, for this reason.
    Refused(Refusal),
}

impl Candidate {
    /// Examines one file, in any folder. None of its code runs.
    ///
    /// ```
    /// let candidate = pactio::Candidate::of_file("/etc/hostname");
    /// assert_eq!(candidate.refusal().unwrap().kind(), pactio::RefusalKind::NotALibrary);
    /// ```
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        let mut registry = Registry::of(Policy::default());
        registry.add(path.into());
        registry.candidates.remove(0)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The outcome for the file.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The plugin, if the file is one.
    pub fn plugin(&self) -> Option<&Arc<Plugin>> {
        match &self.outcome {
            Outcome::Found(plugin) => Some(plugin),
            Outcome::Refused(_) => None,
        }
    }

    /// The refusal, if the file was refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Found(_) => None,
            Outcome::Refused(refusal) => Some(refusal),
        }
    }
}

/// Which files are loaded, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) trust: Trust,
    /// Files are loaded from sealed copies.
    pub(crate) seal: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { trust: Trust::Any, seal: true }
    }
}

/// All candidates of the search paths.
#[derive(Debug)]
pub(crate) struct Registry {
    policy: Policy,
    /// The plugins that are linked into the program. They come first.
    linked: Vec<Arc<Plugin>>,
    paths: SearchPaths,
    candidates: Vec<Candidate>,
    /// Loaded plugins of earlier scans: their libraries stay loaded, so a plugin is used again if the same file comes back.
    before: Vec<Arc<Plugin>>,
}

impl Registry {
    /// Takes the plugins that are linked into the program, and examines every file in the search paths. One bad file never hides
    /// the others.
    ///
    /// # Errors
    ///
    /// If a linked plugin cannot be used.
    pub(crate) fn scan(linked: &[LinkedPlugin], paths: SearchPaths, policy: Policy) -> Result<Self, Error> {
        let mut all: Vec<Arc<Plugin>> = Vec::new();
        for plugin in linked {
            let id = plugin.manifest().id;
            let refused = |refusal: Refusal| {
                let message = format!("the linked plugin '{id}' cannot be used: {refusal}");
                Error::new(ErrorKind::Refused(refusal.kind()), message)
            };
            if all.iter().any(|earlier| earlier.manifest().id == id) {
                return Err(refused(Refusal::new(RefusalKind::Duplicate, "two linked plugins have this id")));
            }
            all.push(Arc::new(Plugin::linked(*plugin).map_err(refused)?));
        }
        Ok(Self::of(policy).scan_after(all, paths, Vec::new()))
    }

    fn of(policy: Policy) -> Self {
        let (linked, candidates, before) = (Vec::new(), Vec::new(), Vec::new());
        Self { policy, linked, paths: SearchPaths::default(), candidates, before }
    }

    /// Scans again; `None` if nothing has changed.
    pub(crate) fn scan_again(&self) -> Option<Self> {
        let mut before: Vec<Arc<Plugin>> = self.found().cloned().collect();
        before.extend(self.before.iter().cloned());
        let registry = Self::of(self.policy).scan_after(self.linked.clone(), self.paths.clone(), before);
        (!registry.is_like(self)).then_some(registry)
    }

    fn scan_after(mut self, linked: Vec<Arc<Plugin>>, paths: SearchPaths, before: Vec<Arc<Plugin>>) -> Self {
        (self.linked, self.before) = (linked, before);
        let mut registry = self;
        for folder in paths.iter() {
            for path in examine::files(folder) {
                registry.add(path);
            }
        }
        let Self { candidates, before, .. } = &mut registry;
        let is_used = |plugin: &Arc<Plugin>| {
            candidates.iter().any(|c| c.plugin().is_some_and(|used| Arc::ptr_eq(used, plugin)))
        };
        before.retain(|plugin| plugin.is_loaded() && !is_used(plugin));
        registry.paths = paths;
        registry
    }

    fn is_like(&self, other: &Self) -> bool {
        let same = |(one, other): (&Candidate, &Candidate)| {
            one.path == other.path
                && match (&one.outcome, &other.outcome) {
                    (Outcome::Found(one), Outcome::Found(other)) => Arc::ptr_eq(one, other),
                    (Outcome::Refused(one), Outcome::Refused(other)) => one.to_string() == other.to_string(),
                    _ => false,
                }
        };
        self.candidates.len() == other.candidates.len()
            && self.candidates.iter().zip(&other.candidates).all(same)
    }

    fn add(&mut self, path: PathBuf) {
        let outcome = match self.look_at(&path) {
            Ok(plugin) => {
                tracing::debug!(plugin = plugin.manifest().id.as_str(), path = %path.display(), "found");
                Outcome::Found(plugin)
            }
            Err(refusal) => {
                // Other libraries often lie beside plugins. They are not worth a warning.
                if refusal.kind() == RefusalKind::NoManifest {
                    tracing::trace!(path = %path.display(), "{refusal}");
                } else {
                    tracing::warn!(path = %path.display(), "refused: {refusal}");
                }
                Outcome::Refused(refusal)
            }
        };
        self.candidates.push(Candidate { path, outcome });
    }

    fn look_at(&self, path: &Path) -> Result<Arc<Plugin>, Refusal> {
        trust::check(path, self.policy.trust)?;
        let described = examine::describe(path)?;
        // The file is loaded later, perhaps from another working directory.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let id = &described.manifest.id;
        match self.plugins().find(|earlier| earlier.manifest().id == *id) {
            None => {
                let same = |plugin: &&Arc<Plugin>| {
                    plugin.path() == Some(resolved.as_path()) && plugin.is_current(&described)
                };
                let known = self.before.iter().find(same).cloned();
                Ok(known.unwrap_or_else(|| Arc::new(Plugin::new(resolved, described, self.policy.seal))))
            }
            Some(earlier) => Err(Refusal::new(
                RefusalKind::Duplicate,
                match earlier.path() {
                    Some(path) => {
                        format!("its plugin id '{id}' is taken by {}, which was found first", path.display())
                    }
                    None => {
                        format!("its plugin id '{id}' is taken by the plugin that is linked into the program")
                    }
                },
            )
            .with_remedy("remove one of the two, or name the folder of the other first")),
        }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// All plugins: those that are linked in, then those that were found.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.linked.iter().chain(self.found())
    }

    fn found(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.candidates.iter().filter_map(Candidate::plugin)
    }

    /// The first plugin that has the scheme.
    pub(crate) fn plugin_with(&self, scheme: &str) -> Result<&Arc<Plugin>, Error> {
        self.plugin_of(scheme, false)
    }

    /// The first filter with the name.
    pub(crate) fn filter_with(&self, name: &str) -> Result<&Arc<Plugin>, Error> {
        self.plugin_of(name, true)
    }

    /// The first plugin or filter that has the scheme; the error lists those that exist.
    pub(crate) fn plugin_or_filter(&self, name: &str) -> Result<&Arc<Plugin>, Error> {
        let found = self.plugins().find(|plugin| plugin.manifest().has_scheme(name));
        found.ok_or_else(|| self.unknown(name, false))
    }

    fn plugin_of(&self, scheme: &str, filter: bool) -> Result<&Arc<Plugin>, Error> {
        self.plugins()
            .find(|plugin| plugin.manifest().filter == filter && plugin.manifest().has_scheme(scheme))
            .ok_or_else(|| self.unknown(scheme, filter))
    }

    /// The error for an unknown scheme. It lists the schemes that exist, and, if none of them is similar, the folders that were
    /// searched.
    fn unknown(&self, scheme: &str, filter: bool) -> Error {
        let of_kind =
            |filter| self.plugins().map(|plugin| plugin.manifest()).filter(move |m| m.filter == filter);
        if of_kind(!filter).any(|manifest| manifest.has_scheme(scheme)) {
            return if filter {
                Error::new(ErrorKind::UnknownScheme, format!("'{scheme}' is not a filter"))
                    .with_hint(format!("a URL of it stands at the front: {scheme}:... | FILTER"))
            } else {
                Error::new(
                    ErrorKind::UnknownScheme,
                    format!("'{scheme}' is a filter and opens nothing by itself"),
                )
                .with_hint(format!("put it onto a device: URL | {scheme}"))
            };
        }
        let mut schemes: Vec<&str> =
            of_kind(filter).flat_map(|manifest| manifest.schemes.iter().map(String::as_str)).collect();
        schemes.sort_unstable();
        let mut message = if filter {
            format!("no plugin has the filter '{scheme}'")
        } else {
            format!("no plugin has the scheme '{scheme}'")
        };
        let has_refused = self.candidates().iter().any(|candidate| candidate.refusal().is_some());
        if let Some(meant) = similar(scheme, schemes.iter().copied()).filter(|_| !has_refused) {
            // For a typing error, the message does not list the folders.
            message.push_str(&format!(
                "; did you mean '{meant}'?\nthose that exist are: {}",
                schemes.join(", ")
            ));
            return Error::new(ErrorKind::UnknownScheme, message)
                .with_hint("`pactio plugins` lists the plugins that were found");
        }
        match schemes.as_slice() {
            [] if filter => message.push_str("; no filter was found"),
            [] => message.push_str("; no plugin was found"),
            schemes => message.push_str(&format!("; those that exist are: {}", schemes.join(", "))),
        }
        message.push_str("\nsearched:");
        for folder in self.paths.iter() {
            message.push_str(&format!("\n  {}: {}", folder.display(), self.found_in(folder)));
        }
        let mut hint =
            format!("put the plugin's .so into one of these folders, or name its folder in {PATH_VARIABLE}");
        if self.plugins().next().is_none() {
            hint.push_str("; a program may also link plugins in, with HostBuilder::plugin");
        }
        Error::new(ErrorKind::UnknownScheme, message).with_hint(hint)
    }

    /// The folders that exist, but cannot be searched, with the system's errors.
    pub(crate) fn unreadable_folders(&self) -> Vec<(PathBuf, std::io::Error)> {
        let read = |folder: &Path| std::fs::read_dir(folder).err().map(|error| (folder.to_owned(), error));
        let all = self.paths.iter().filter_map(read);
        all.filter(|(_, error)| error.kind() != std::io::ErrorKind::NotFound).collect()
    }

    /// The files that were found in a folder, in words.
    fn found_in(&self, folder: &Path) -> String {
        match std::fs::read_dir(folder) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return "does not exist".to_owned(),
            Err(error) => return format!("cannot be read: {error}"),
        }
        let found: Vec<&Candidate> =
            self.candidates.iter().filter(|candidate| candidate.path.parent() == Some(folder)).collect();
        let mut words = Vec::new();
        let mut refused = String::new();
        for candidate in &found {
            let name = candidate.path.file_name().unwrap_or_default().display();
            match &candidate.outcome {
                Outcome::Found(plugin) => {
                    words.push(format!("{name} ({})", plugin.manifest().schemes.join(", ")))
                }
                Outcome::Refused(refusal) if refusal.kind() == RefusalKind::NoManifest => {}
                Outcome::Refused(refusal) => refused.push_str(&format!("\n    {name} refused: {refusal}")),
            }
        }
        let others =
            found.iter().filter(|c| c.refusal().is_some_and(|r| r.kind() == RefusalKind::NoManifest)).count();
        if others > 0 {
            let libraries = if others == 1 { "library" } else { "libraries" };
            words.push(format!("{others} other {libraries} (`pactio plugins --all` names them)"));
        }
        if words.is_empty() && refused.is_empty() {
            words.push("no libraries".to_owned());
        }
        words.join("; ") + &refused
    }
}
