//! The hashes of a device's blocks.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use pactio_blocks::Blocks;
use pactio_sdk::{BlockOn, Cause, Code, IoError, IoRead, Lower, OpenError};
use sha2::{Digest, Sha256};

/// Bytes of a hash.
const LEN: usize = 32;

/// The hash of each block.
pub(crate) struct Hashes {
    hashes: Vec<u8>,
    unit: usize,
    size: u64,
}

impl Hashes {
    /// Reads the hashes of a device of `size` bytes.
    pub(crate) fn read(path: &Path, size: u64, unit: usize, root: Option<&str>) -> Result<Self, OpenError> {
        let shown = path.display();
        let hashes = fs::read(path).map_err(|error| {
            let hint = if error.kind() == std::io::ErrorKind::NotFound { "; make=true makes it" } else { "" };
            let text = format!("the hashes '{shown}' cannot be read: {error}{hint}");
            OpenError::new(error.into(), text)
        })?;
        let corrupt = |text| OpenError::new(IoError::from_code(Code::CORRUPT), text);
        if let Some(root) = root {
            let found = hex(&Sha256::digest(&hashes));
            if !root.eq_ignore_ascii_case(&found) {
                return Err(corrupt(format!(
                    "the hashes '{shown}' have the hash {found}, and not the root {root}"
                )));
            }
        }
        let blocks = size.div_ceil(unit as u64);
        if hashes.len() as u64 != blocks * LEN as u64 {
            let text = format!(
                "'{shown}' has {} bytes; a device of {size} bytes in blocks of {unit} has {} bytes of hashes",
                hashes.len(),
                blocks * LEN as u64
            );
            return Err(corrupt(text));
        }
        Ok(Self { hashes, unit, size })
    }

    /// Reads all of a device, and makes the file of its hashes. The file appears when it is complete.
    pub(crate) fn make(path: &Path, lower: &Lower, size: u64, unit: usize) -> Result<Self, OpenError> {
        let mut hashes = Vec::new();
        // Each request reads several whole blocks, so that the latency of a device is not paid for each block.
        let largest = unit * ((1 << 20) / unit).max(1);
        let mut position = 0;
        while position < size {
            let len = usize::try_from(size - position).unwrap_or(usize::MAX).min(largest);
            let bytes = lower.block_on(lower.read_all(position, vec![0; len])).map_err(|error| {
                let text = format!(
                    "{len} bytes at {position:#x}, of which hashes are made, cannot be read: {error}"
                );
                OpenError::new(error, text)
            })?;
            bytes.chunks(unit).for_each(|block| hashes.extend_from_slice(&Sha256::digest(block)));
            position += len as u64;
        }
        write(path, &hashes).map_err(|error| {
            let text = format!("the hashes '{}' cannot be written: {error}", path.display());
            OpenError::new(error.into(), text)
        })?;
        Ok(Self { hashes, unit, size })
    }
}

/// Writes a file that appears when it is complete.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".pactio-verify-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Blocks for Hashes {
    fn unit(&self) -> usize {
        self.unit
    }

    fn end(&self) -> Option<u64> {
        Some(self.size)
    }

    fn decode(&self, block: u64, bytes: &mut [u8]) -> Result<(), Cause> {
        let start = block as usize * LEN;
        if self.hashes.get(start..start + LEN) == Some(Sha256::digest(&*bytes).as_slice()) {
            return Ok(());
        }
        let start = block * self.unit as u64;
        let text = format!("the {} bytes at {start:#x} do not have the hash of block {block}", bytes.len());
        Err(Cause::new(IoError::from_code(Code::CORRUPT), text))
    }
}
