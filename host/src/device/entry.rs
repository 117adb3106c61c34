//! Opening of names in a tree.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use pactio_sdk::{Capability, Cause, Code, IoError, Name, OpenError, OpenMode};

use super::{Device, Shared};
use crate::executor::Call;
use crate::url::trimmed;
use crate::{Error, ErrorKind, OpenOptions, Url};

impl Device {
    /// Opens a name in a device that is a tree, such as an archive or a folder. `name` is a path: names joined with `/`. The call
    /// blocks for as long as opening takes; [`opening`](Self::opening) does not.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), pactio::Error> {
    /// let host = pactio::Host::builder().build()?;
    /// let archive = host.open("file:/data/base.zip | archive")?;
    /// let map = archive.open("maps/e1.bsp")?;
    /// assert_eq!(map.url(), "file:/data/base.zip | archive | /maps/e1.bsp");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the device is no tree, the name does not exist, or it cannot be opened.
    pub fn open(&self, name: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.open_with(name, OpenOptions::new().read(true))
    }

    /// Opens a name in a tree with `options`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(&self, name: impl AsRef<[u8]>, options: OpenOptions) -> Result<Self, Error> {
        let name = name.as_ref();
        if options.limit().is_some() {
            return futures_lite::future::block_on(self.opening(name, options));
        }
        options.check(&Name::show(name).to_string())?;
        self.open_in(name, options.mode()).map_err(|error| {
            let (url, plugin) = (self.url(), &self.plugin().manifest().id);
            let name = Name::show(name);
            let text = format!("cannot open '{name}' in '{url}' (plugin '{plugin}'): {}", error.message());
            Error::new(ErrorKind::Open(error.error().code()), text)
                .with_cause(Cause::new(error.error(), error.message()))
        })
    }

    /// The device at the bottom of the stack.
    pub(crate) fn bottom(&self) -> Bottom {
        match &self.0.below {
            Some(below) => below.bottom(),
            None => Bottom(Arc::downgrade(&self.0)),
        }
    }

    /// Opens a name like [`open_with`](Self::open_with), with an error for a plugin.
    pub(super) fn open_in(&self, name: &[u8], mode: OpenMode) -> Result<Self, OpenError> {
        let shared = &*self.0;
        let remote = &shared.remote;
        if !remote.has(Capability::OPEN) {
            // A filter does not forward the opening, since the opened device would bypass it: under copy on write, for example,
            // writes would reach the device below.
            let text = match self.below() {
                Some(below) if below.0.remote.has(Capability::OPEN) => {
                    "a filter opens no names; open the name first: URL | /NAME | FILTER"
                }
                _ => "it is not a tree, and has no names in it",
            };
            return Err(OpenError::new(IoError::UNSUPPORTED, text));
        }
        let name = checked(name)?;
        let object = {
            let _entered = super::current::Entered::new(shared, Call::Slow);
            let id = &shared.plugin.manifest().id;
            shared.runtime.watchdog().call("open", id, || remote.open(name, mode))?
        };
        let url = format!("{} | {}", shared.url, Url::shown_name(name));
        let (plugin, runtime) = (shared.plugin.clone(), shared.runtime.clone());
        Self::new(url, plugin, object, Some(self.clone()), 0, runtime, shared.counting.as_ref()).map_err(
            |error| {
                OpenError::new(IoError::from_code(error.code().unwrap_or(Code::FAILED)), error.to_string())
            },
        )
    }
}

/// Gives a name in a tree as plugins get it: without `/` at its ends. Refuses a name with a part that is empty, `.` or `..`,
/// or has a zero byte.
pub(super) fn checked(name: &[u8]) -> Result<&[u8], OpenError> {
    let name = trimmed(name);
    let is_bad = |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.contains(&0);
    if name.split(|byte| *byte == b'/').any(is_bad) {
        let text = "a name is the names on the way joined with '/', none of them empty, '.' or '..'";
        return Err(OpenError::invalid_input(text));
    }
    Ok(name)
}

/// The identity of a device. It does not keep the device open, and never equals the identity of a later device.
#[derive(Clone)]
pub(crate) struct Bottom(Weak<Shared>);

impl PartialEq for Bottom {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for Bottom {}

impl Hash for Bottom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}
