//! The users that can change a plugin's file: code that every user can write is not loaded.

use std::path::Path;

use super::Refusal;
#[cfg(unix)]
use super::RefusalKind;

/// The users whose files are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All users, unless every user of the system can write the file or its folder.
    #[default]
    Any,
    /// Only the user of this process and root, also for the folders further up. The group must not be able to write them, either.
    OwnerAndRoot,
}

/// Refuses a file if a user that is not trusted can write it, or can put another file in its place.
#[cfg(unix)]
pub(super) fn check(path: &Path, trust: Trust) -> Result<(), Refusal> {
    use std::collections::HashSet;

    // The path may be a link: the target is checked, too, with the folders of both paths.
    let resolved = path.canonicalize();
    let mut seen = HashSet::new();
    for path in [Some(path), resolved.as_deref().ok()].into_iter().flatten() {
        for (depth, path) in path.ancestors().filter(|path| !path.as_os_str().is_empty()).enumerate() {
            if seen.insert(path) {
                check_one(path, depth, trust)?;
            }
        }
    }
    Ok(())
}

/// Checks a file (depth 0), its folder (1), or a folder further up.
#[cfg(unix)]
fn check_one(path: &Path, depth: usize, trust: Trust) -> Result<(), Refusal> {
    use std::os::unix::fs::MetadataExt;

    const STICKY: u32 = 0o1000;
    if trust == Trust::Any && depth > 1 {
        return Ok(());
    }
    // A file that cannot be reached is refused when it is read.
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    let mode = metadata.mode() & 0o7777;
    // In a sticky folder, users cannot replace the files of other users. In a plugin's own folder, this is not enough: a new file
    // is a new plugin.
    let is_shared = depth > 1 && mode & STICKY != 0;
    let (users, advice) = if mode & 0o002 != 0 && !is_shared {
        ("every user of the system".to_owned(), "chmod o-w")
    } else if trust == Trust::Any {
        return Ok(());
    } else if mode & 0o020 != 0 && !is_shared {
        (format!("every member of the group {}", metadata.gid()), "chmod g-w")
    } else if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        (format!("the user {}", metadata.uid()), "chown")
    } else {
        return Ok(());
    };
    let what = if depth == 0 { "it".to_owned() } else { format!("the folder {}", path.display()) };
    let text = format!("{users} can write {what} (mode {mode:04o})");
    Err(Refusal::new(RefusalKind::Writable, text).with_remedy(format!("{advice} {}", path.display())))
}

#[cfg(not(unix))]
pub(super) fn check(_: &Path, _: Trust) -> Result<(), Refusal> {
    Ok(())
}
