//! The copy of a plugin's file that is examined and then loaded: a file in memory that cannot be changed.
//!
//! ```text
//!  file ── copied once ──► memory, sealed ──► manifest, entry, digest ──► loaded by its name in /proc
//! ```

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use object::{Object, ObjectSection};
#[cfg(target_os = "linux")]
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::candidate::Stamp;
use super::loader::Digest;
use super::{Refusal, RefusalKind};

/// A sealed copy.
pub(super) struct Sealed(File);

impl Sealed {
    /// Copies a file from its current position on. `name` is shown by the system in lists of mapped files.
    ///
    /// # Errors
    ///
    /// If the system has no such files, or no memory for it.
    #[cfg(target_os = "linux")]
    pub(super) fn copy(mut from: &File, name: &str) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and make every such file executable.
        let file = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
        let mut copy = File::from(file);
        io::copy(&mut from, &mut copy)?;
        fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(copy))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn copy(_: &File, _: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bytes.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// The name that the copy is loaded by. Debuggers, too, find the symbols by it while the process lives, so it has the number of the
    /// process. Keeps the copy open for the life of the process: the loader remembers names, and must not find another file there.
    #[cfg(target_os = "linux")]
    pub(super) fn into_name(self) -> PathBuf {
        let name = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        std::mem::forget(self.0);
        name.into()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn into_name(self) -> PathBuf {
        PathBuf::new()
    }
}

/// A copy that is loaded.
#[derive(Clone)]
pub(super) struct Loaded {
    stamp: Option<Stamp>,
    pub(super) digest: Digest,
    /// The name that it was loaded by: loading that again gives the same library.
    pub(super) name: PathBuf,
}

/// The copies that this process has loaded: a file of the same bytes is the same library for all hosts.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

impl Loaded {
    /// The copy of a file with this stamp, or of the same bytes.
    pub(super) fn find(stamp: Option<Stamp>, digest: Option<Digest>) -> Option<Self> {
        let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |copy: &&Self| (stamp.is_some() && copy.stamp == stamp) || digest == Some(copy.digest);
        loaded.iter().rev().find(is_same).cloned()
    }

    /// Remembers a copy that was loaded.
    pub(super) fn remember(stamp: Option<Stamp>, digest: Digest, name: PathBuf) {
        LOADED.lock().unwrap_or_else(PoisonError::into_inner).push(Self { stamp, digest, name });
    }
}

/// Tags of the entries of an ELF file's dynamic section whose texts may have `$ORIGIN`.
const NEEDED: u64 = 1;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// Refuses a library that looks for others relative to its own folder: its copy is in no folder.
pub(super) fn refuse_origin(bytes: &[u8]) -> Result<(), Refusal> {
    let Some(text) = relative_text(bytes) else { return Ok(()) };
    Err(Refusal::new(
        RefusalKind::CannotLoad,
        format!("it looks for other libraries relative to its own folder ('{text}'), but is loaded from a sealed copy"),
    )
    .with_remedy("link them statically, give the full path of their folder, or turn `HostBuilder::seal` off"))
}

/// The text with `$ORIGIN` in the dynamic section, if there is one.
fn relative_text(bytes: &[u8]) -> Option<String> {
    let library = object::File::parse(bytes).ok()?;
    let (dynamic, texts) = (library.section_by_name(".dynamic")?, library.section_by_name(".dynstr")?);
    let (dynamic, texts) = (dynamic.data().ok()?, texts.data().ok()?);
    let little = library.is_little_endian();
    let word = if library.is_64() { 8 } else { 4 };
    let number = |bytes: &[u8]| {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    };
    dynamic.chunks_exact(2 * word).find_map(|entry| {
        let (tag, value) = (number(&entry[..word]), number(&entry[word..]));
        if ![NEEDED, RPATH, RUNPATH].contains(&tag) {
            return None;
        }
        let text = texts.get(usize::try_from(value).ok()?..)?.split(|&byte| byte == 0).next()?;
        let text = String::from_utf8_lossy(text);
        (text.contains("$ORIGIN") || text.contains("${ORIGIN}")).then(|| text.into_owned())
    })
}
