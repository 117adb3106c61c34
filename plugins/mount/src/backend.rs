//! Opens mounts: all sources side by side.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use pactio_pool::Lazy;
use pactio_sdk::{Backend, Capability, Code, IoError, Lower, OpenError, OpenMode, OpenRequest, TreeDevice};

use crate::case::Case;
use crate::device::Mount;
use crate::plan::{self, Source};
use crate::sources::{Absent, Mounted};

/// The backend.
pub(crate) struct Mounts;

/// The threads that look names up, for all mounts. A job on a thread must not wait for another job: a mount may be a source of
/// another mount.
static POOL: Lazy = Lazy::new("pactio-mount");
const THREADS: usize = 4;

/// Maximum number of sources of a mount that are opened at the same time.
const SIDE_BY_SIDE: usize = 16;

impl Backend for Mounts {
    type Device = TreeDevice<Mount>;

    fn open(&self, request: &OpenRequest<'_>) -> Result<TreeDevice<Mount>, OpenError> {
        let case = if request.flag_option("ignore-case")? { Case::Ignored } else { Case::Exact };
        let sources = plan::of(request.target())?;
        let opened = open_all(&request.opener()?, &sources)?;
        let (mut mounted, mut absent) = (Vec::new(), Vec::new());
        for (source, opened) in sources.into_iter().zip(opened) {
            match opened {
                Ok(tree) => mounted.push(Mounted { source, tree, case }),
                Err(error) => {
                    tracing::warn!("the optional source '{}' is left out: {error}", source.name);
                    absent.push(Absent { source, reason: error.to_string() });
                }
            }
        }
        Ok(TreeDevice(Mount::new(mounted, absent, POOL.get(THREADS)?)))
    }
}

/// The result of each source, in order; the failures are those of optional sources.
///
/// # Errors
///
/// If a source that is not optional fails. Sources that were not begun by then are not opened.
fn open_all(opener: &Lower, sources: &[Source]) -> Result<Vec<Result<Lower, OpenError>>, OpenError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<Lower, OpenError>>>> =
        sources.iter().map(|_| Mutex::default()).collect();
    let work = || {
        // Ordering: Relaxed, for all of them. The results are handed over by their locks.
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(index) else { return };
            let opened = open_tree(opener, source);
            if opened.is_err() && !source.optional {
                failed.store(true, Ordering::Relaxed);
            }
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        }
    };
    thread::scope(|scope| {
        // If the system starts no more threads, the existing threads open the remaining sources.
        for _ in 1..sources.len().min(SIDE_BY_SIDE) {
            let _ = thread::Builder::new().name("pactio-mount-open".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let (mut all, mut failure) = (Vec::new(), None);
    for (source, result) in sources.iter().zip(results) {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Err(error)) if !source.optional => {
                let text = format!("the source '{}': {}", source.name, error.message());
                failure.get_or_insert(OpenError::new(error.error(), text));
            }
            Some(result) => all.push(result),
            // Another source failed before this source was begun.
            None => {}
        }
    }
    failure.map_or(Ok(all), Err)
}

fn open_tree(opener: &Lower, source: &Source) -> Result<Lower, OpenError> {
    let tree = opener.open(&source.url, OpenMode::READ)?;
    if !tree.has(Capability::OPEN) {
        let text = "it is not a tree; mount a folder or an archive, as in file:x.zip | archive";
        return Err(OpenError::new(IoError::from_code(Code::INVALID_INPUT), text));
    }
    Ok(tree)
}
