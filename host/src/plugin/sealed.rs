//! The copy of a plugin's file that is examined and then loaded: a file in memory that cannot be changed.
//!
//! ```text
//!  file ── read once ──► bytes: manifest, entry, digest ──► copied to memory, sealed ──► loaded by its name in /proc
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::io::Write;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use object::{Object, ObjectSection};
#[cfg(target_os = "linux")]
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, getrlimit};

use super::{Refusal, RefusalKind};

/// Identifies the file of a library by its bytes.
pub(super) type Digest = [u8; 32];

/// A sealed copy.
pub(super) struct Sealed(File);

impl Sealed {
    /// Copies the bytes of a file. `name` is shown by the system in lists of mapped files.
    ///
    /// # Errors
    ///
    /// If the system has no such files, or no memory for the copy.
    #[cfg(target_os = "linux")]
    pub(super) fn copy(bytes: &[u8], name: &str) -> io::Result<Self> {
        // The limit on the size of files applies to such a file, too, and writing beyond the limit would end the process.
        let limit = getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| bytes.len() as u64 > limit) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and make every such file executable.
        let file = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
        let mut copy = File::from(file);
        copy.write_all(bytes)?;
        fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let this = Self(copy);
        // Without /proc, the loader does not find the copy.
        std::fs::metadata(this.name())?;
        Ok(this)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn copy(_: &[u8], _: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The name by which the copy is loaded. Debuggers use the same name to find the symbols while the process lives, so the name
    /// contains the number of the process. The copy stays open for the life of the process: the loader remembers names, and must
    /// not find another file under this name.
    #[cfg(target_os = "linux")]
    pub(super) fn into_name(self) -> PathBuf {
        let name = self.name();
        std::mem::forget(self.0);
        name
    }

    #[cfg(target_os = "linux")]
    fn name(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn into_name(self) -> PathBuf {
        PathBuf::new()
    }
}

/// The names of the copies that this process has loaded: files of the same bytes are one library for all hosts.
static LOADED: Mutex<BTreeMap<Digest, PathBuf>> = Mutex::new(BTreeMap::new());

/// The name that a copy of these bytes was loaded by: loading it again gives the same library.
pub(super) fn loaded_by(digest: Digest) -> Option<PathBuf> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
}

/// Remembers a copy that was loaded.
pub(super) fn remember(digest: Digest, name: PathBuf) {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert(name);
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
