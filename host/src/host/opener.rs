//! The object through which a plugin opens other devices: a tree whose names are URLs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pactio_sdk::{
    BackendDevice, BoundPacketView, Code, DeviceInfo, ExtensionQuery, IoError, OpenError, OpenMode, Opened,
    Opening, Write,
};

use crate::plugin::{OPEN, Plugin};
use crate::{Error, ErrorKind, Host, OpenOptions};

/// Largest number of nested openings.
const DEEPEST: u32 = 16;

const CIRCLE: &str = "sixteen devices open each other, one inside the other: they go round in a circle";

/// Opens URLs for a plugin.
pub(crate) struct Opener {
    host: Host,
    /// Number of unfinished openings around each opening of this opener.
    depth: u32,
    /// The number of layers of the deepest device that was opened.
    layers: Arc<AtomicU32>,
}

impl Opener {
    /// The opener for a plugin at this depth, if the plugin requires one.
    pub(crate) fn for_plugin(
        host: &Host,
        plugin: &Plugin,
        depth: u32,
        layers: &Arc<AtomicU32>,
    ) -> Result<Option<Self>, Error> {
        if !plugin.manifest().requires.iter().any(|feature| feature == OPEN) {
            return Ok(None);
        }
        if depth == DEEPEST {
            return Err(Error::new(ErrorKind::Open(Code::INVALID_INPUT), CIRCLE));
        }
        Ok(Some(Self { host: host.clone(), depth: depth + 1, layers: layers.clone() }))
    }
}

impl BackendDevice for Opener {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        view.error(IoError::UNSUPPORTED);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Opening>(self);
    }
}

impl Opening for Opener {
    fn open(&self, url: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        let url = std::str::from_utf8(url).map_err(|_| OpenError::invalid_input("the URL is not UTF-8"))?;
        let open = || {
            let device = self.host.open_nested(&url.parse()?, OpenOptions::from_mode(mode), self.depth)?;
            // Ordering: Relaxed. The plugin's call returns before the host reads the value.
            self.layers.fetch_max(device.depth(), Ordering::Relaxed);
            Ok(device.lend())
        };
        let opened = open().map_err(|error: Error| {
            let text = match error.hint() {
                // Otherwise each outer device would add its part to the text.
                _ if error.to_string().ends_with(CIRCLE) => CIRCLE.to_owned(),
                Some(hint) => format!("{error} ({hint})"),
                None => error.to_string(),
            };
            OpenError::new(IoError::from_code(error.code().unwrap_or(Code::INVALID_INPUT)), text)
        })?;
        Ok(Opened::object(opened?))
    }
}
