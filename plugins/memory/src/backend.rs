//! Opens devices in memory.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::cells::Cells;
use crate::device::MemoryDevice;

/// The backend.
pub(crate) struct Memory;

impl Backend for Memory {
    type Device = MemoryDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<MemoryDevice, OpenError> {
        // Required by the manifest.
        let size = request.size_option("size")?.unwrap_or(0);
        let fill = request.parsed_option::<u8>("fill", "a byte, 0 to 255")?.unwrap_or(0);
        let cells = usize::try_from(size).ok().and_then(|size| Cells::new(size, fill)).ok_or_else(|| {
            OpenError::new(
                pactio_sdk::IoError::OUT_OF_MEMORY,
                format!("{size} bytes of memory cannot be had"),
            )
        })?;
        Ok(MemoryDevice::new(cells))
    }
}
