//! Opens devices and trees in memory.

use pactio_sdk::{Backend, IoError, OpenError, OpenRequest, Opened, TreeDevice};

use crate::cells::Cells;
use crate::device::MemoryDevice;
use crate::tree::{Folder, Names};

/// The backend.
pub(crate) struct Memory;

impl Backend for Memory {
    type Device = MemoryDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<MemoryDevice, OpenError> {
        let size = size(request)?;
        let fill = request.parsed_option::<u8>("fill", "a byte, 0 to 255")?.unwrap_or(0);
        let cells = usize::try_from(size).ok().and_then(|size| Cells::new(size, fill)).ok_or_else(|| {
            OpenError::new(IoError::OUT_OF_MEMORY, format!("{size} bytes of memory cannot be had"))
        })?;
        Ok(MemoryDevice::new(cells))
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        let Some(name) = request.target().strip_suffix('/') else {
            return self.open(request).map(Opened::new);
        };
        if request.option("fill").is_some_and(|fill| fill != "0") {
            return Err(OpenError::invalid_input("a tree begins without files; leave fill= out"));
        }
        let names = Names::of(name, size(request)?)?;
        Ok(Opened::new(TreeDevice(Folder::new(names, Vec::new(), request.mode()))))
    }
}

fn size(request: &OpenRequest<'_>) -> Result<u64, OpenError> {
    // Required by the manifest.
    Ok(request.size_option("size")?.unwrap_or(0))
}
