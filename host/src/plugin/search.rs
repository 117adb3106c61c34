//! The folders that are searched for plugins. The current directory is never searched.

use std::env;
use std::path::{Path, PathBuf};

/// Environment variable with folders that are searched first, separated like those of `PATH`.
pub(crate) const PATH_VARIABLE: &str = "PACTIO_PLUGIN_PATH";

/// Folder name below a `lib` folder.
const FOLDER: &str = "pactio/plugins";

/// Folders in the order in which they are searched.
#[derive(Debug, Clone, Default)]
pub(crate) struct SearchPaths(Vec<PathBuf>);

impl SearchPaths {
    /// The given folders, and no others.
    pub(crate) fn only(folders: Vec<PathBuf>) -> Self {
        let mut paths = Self::default();
        folders.into_iter().for_each(|folder| paths.push(folder));
        paths
    }

    /// The given folders, then those of the environment, of the program, of the user and of the system.
    pub(crate) fn with_defaults(mut folders: Vec<PathBuf>) -> Self {
        if let Some(variable) = env::var_os(PATH_VARIABLE) {
            folders.extend(env::split_paths(&variable).filter(|folder| !folder.as_os_str().is_empty()));
        }
        if let Some(program) = env::current_exe().ok().as_deref().and_then(Path::parent) {
            folders.extend(beside_program(program));
        }
        if let Some(home) = env::var_os("HOME").filter(|home| !home.is_empty()) {
            folders.push(Path::new(&home).join(".local/lib").join(FOLDER));
        }
        folders.push(Path::new("/usr/local/lib").join(FOLDER));
        folders.push(Path::new("/usr/lib").join(FOLDER));
        Self::only(folders)
    }

    fn push(&mut self, folder: PathBuf) {
        if !self.0.contains(&folder) {
            self.0.push(folder);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }
}

/// Folders that belong to a program in `folder`: of an installation, and of a build by cargo, which puts the plugins
/// that a program depends on into `deps`.
fn beside_program(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.join("plugins")];
    if let Some(prefix) = folder.parent() {
        folders.push(prefix.join("lib").join(FOLDER));
    }
    // target/debug, target/debug/deps, target/debug/examples
    folders.extend(
        folder
            .ancestors()
            .take(2)
            .filter(|folder| folder.join(".fingerprint").is_dir())
            .map(|folder| folder.join("deps")),
    );
    folders
}
