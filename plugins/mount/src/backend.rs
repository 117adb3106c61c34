//! Opens mounts.

use pactio_plugin_pool::Lazy;
use pactio_sdk::{Backend, Capability, Code, IoError, OpenError, OpenMode, OpenRequest, TreeDevice};

use crate::device::Mount;
use crate::plan;
use crate::sources::Mounted;

/// The backend.
pub(crate) struct Mounts;

/// The threads that look names up, for all mounts. They do not wait for each other: a mount may be a source of another.
static POOL: Lazy = Lazy::new("pactio-mount");
const THREADS: usize = 4;

impl Backend for Mounts {
    type Device = TreeDevice<Mount>;

    fn open(&self, request: &OpenRequest<'_>) -> Result<TreeDevice<Mount>, OpenError> {
        let opener = request.opener()?;
        let mut mounted = Vec::new();
        for source in plan::of(request.target())? {
            let named = |error: IoError, what: &str| {
                OpenError::new(error, format!("the source '{}': {what}", source.name))
            };
            let tree = opener
                .open(&source.url, OpenMode::READ)
                .map_err(|error| named(error.error(), error.message()))?;
            if !tree.has(Capability::OPEN) {
                let text = "it is not a tree; mount a folder or an archive, as in file:x.zip | archive";
                return Err(named(IoError::from_code(Code::INVALID_INPUT), text));
            }
            mounted.push(Mounted { source, tree });
        }
        Ok(TreeDevice(Mount::new(mounted, POOL.get(THREADS)?)))
    }
}
