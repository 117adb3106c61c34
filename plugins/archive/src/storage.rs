//! The device below, in the version from which the directory was read.
//!
//! A device with a version tag in its metadata belongs to that version, and fails by itself when the version changes. For other
//! files, the filter compares identity, size and time of change: when an archive is opened, after each read of a stored file,
//! after each read of compressed bytes that no check sum covers yet, and when bytes are found corrupt. A change that keeps all
//! three, such as one within one tick of the file system's clock, is not detected.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::SystemTime;

use pactio_sdk::{Capability, Cause, Code, Identity, IoError, Kind, Lower, OpenError, Stat};

/// A device below, and its version.
pub(crate) struct Storage {
    pub(crate) lower: Lower,
    version: Arc<Version>,
    /// The device may return bytes of another version.
    changes: bool,
}

/// The version of a file, as far as its metadata shows it.
#[derive(PartialEq, Eq)]
struct Version {
    identity: Option<Identity>,
    size: Option<u64>,
    modified: Option<SystemTime>,
    tag: Option<String>,
}

impl From<Stat> for Version {
    fn from(stat: Stat) -> Self {
        Self { identity: stat.identity, size: stat.size, modified: stat.modified, tag: stat.version }
    }
}

impl Storage {
    /// The device in its current version. May block.
    pub(crate) fn new(lower: Lower) -> Result<Arc<Self>, OpenError> {
        let stat = stat(&lower)?;
        let changes = lower.has(Capability::STAT) && stat.kind == Some(Kind::FILE) && stat.version.is_none();
        Ok(Arc::new(Self { lower, version: Arc::new(stat.into()), changes }))
    }

    /// Whether the device may return bytes of another version. If so, call [`check`](Self::check) after each read.
    pub(crate) fn changes(&self) -> bool {
        self.changes
    }

    /// Checks that the device still has the version. Calls `then` on this thread, or on the thread that answers.
    pub(crate) fn check(self: &Arc<Self>, then: impl FnOnce(Result<(), Cause>) + Send + 'static) {
        if !self.changes {
            return then(Ok(()));
        }
        // The device keeps this callback, so the callback must not keep the device.
        let version = self.version.clone();
        self.lower.stat(move |stat| {
            then(match stat.map(Version::from) {
                Ok(now) if now == *version => Ok(()),
                Ok(_) => Err(changed()),
                Err(error) => Err(error.into()),
            });
        });
    }

    /// Checks that the device still has the version. May block.
    pub(crate) fn check_now(self: &Arc<Self>) -> Result<(), OpenError> {
        if self.changes && Version::from(stat(&self.lower)?) != *self.version {
            let cause = changed();
            return Err(OpenError::new(cause.error(), cause.to_string()));
        }
        Ok(())
    }

    /// The error of a failed open. If the error is corruption and the archive has changed, the change is the error. May block.
    pub(crate) fn blame(self: &Arc<Self>, error: OpenError) -> OpenError {
        match self.check_now() {
            Err(changed) if error.error().code() == Code::CORRUPT => changed,
            _ => error,
        }
    }
}

fn changed() -> Cause {
    Cause::new(
        IoError::from_code(Code::CHANGED),
        "the archive has changed since it was opened; open it again",
    )
}

/// Asks for the metadata, and waits for it.
fn stat(lower: &Lower) -> Result<Stat, OpenError> {
    let (sender, receiver) = channel();
    lower.stat(move |stat| {
        let _ = sender.send(stat);
    });
    receiver.recv().unwrap_or(Err(IoError::UNANSWERED)).map_err(OpenError::from)
}
