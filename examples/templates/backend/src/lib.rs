//! A backend: blocks of memory, `block:64KiB?fill=7`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pactio_sdk::{
    Backend, BackendDevice, BoundPacketView, DeviceInfo, IoError, OpenError, OpenRequest, OptionSpec, Read,
    Write, parse_size,
};

/// Opens devices. One value is shared by all of them.
struct Blocks;

impl Backend for Blocks {
    type Device = Block;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Block, OpenError> {
        let size = parse_size(request.target()).ok_or_else(|| {
            OpenError::invalid_input(format!("'{}' is not a size; try block:64KiB", request.target()))
        })?;
        // The host has checked the option against the macro below.
        let fill = request.parsed_option::<u8>("fill", "0 to 255")?.unwrap_or(0);
        Block::new(size, fill)
    }
}

/// An open device.
struct Block {
    bytes: Mutex<Vec<u8>>,
}

impl Block {
    fn new(size: u64, fill: u8) -> Result<Self, OpenError> {
        let mut bytes = Vec::new();
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        bytes
            .try_reserve_exact(len)
            .map_err(|_| OpenError::new(IoError::OUT_OF_MEMORY, format!("{size} bytes")))?;
        bytes.resize(len, fill);
        Ok(Self { bytes: Mutex::new(bytes) })
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackendDevice for Block {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.bytes().len() as u64)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let bytes = self.bytes();
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        // Moves the bytes that exist; the rest of the view fails as past the end.
        let answer = view.transfer_data(&bytes[start..]);
        // The lock is released first: completing may run code of the requester.
        drop(bytes);
        answer.complete();
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let mut bytes = self.bytes();
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let answer = view.transfer_data(&mut bytes[start..]);
        drop(bytes);
        answer.complete();
    }
}

pactio_sdk::export_plugin! {
    id: "template-backend",
    description: "blocks of memory",
    schemes: ["block"],
    options: [OptionSpec::integer("fill", "the value of each byte").range("0", "255").default("0")],
    check: "block:64KiB",
    backend: Blocks,
}

/// Tests without a host: `LocalDevice` is the device in the same program.
#[cfg(test)]
mod tests {
    use pactio_sdk::{BlockOn, IoRead, IoWrite, LocalDevice, OpenError};

    use super::{Block, IoError};

    #[test]
    fn written_bytes_are_read_again() -> Result<(), OpenError> {
        let device = LocalDevice::new(Block::new(100, 7)?)?;
        device.block_on(async {
            device.write_all(10, b"some bytes").await?;
            assert_eq!(device.read_all(8, vec![0; 14]).await?, b"\x07\x07some bytes\x07\x07");
            // Five bytes exist; the report says so.
            let (report, bytes) = device.read_raw(95, vec![0; 10]).await?;
            assert_eq!((report.done(), &bytes[..5]), (5, &[7; 5][..]));
            assert_eq!(report.min_error(), Some((5, IoError::END)));
            Ok::<_, OpenError>(())
        })?;
        assert!(Block::new(u64::MAX, 0).is_err(), "there is not that much memory");
        Ok(())
    }
}
