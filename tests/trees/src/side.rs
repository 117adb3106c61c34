//! The device's side of each permission.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use pactio_sdk::{
    BoundPacketView, IoError, PacketPerms, Read, ReadPacketObj, ReadWrite, ReadWritePacketObj, Splittable,
    TransferredPacket, Write, WritePacketObj,
};

/// The initial value of a byte of the packet.
pub fn packet_byte(index: usize) -> u8 {
    (index as u8).wrapping_mul(31) ^ (index >> 8) as u8
}

/// The initial value of a byte of the device.
pub fn device_byte(index: usize) -> u8 {
    !packet_byte(index).rotate_left(3)
}

/// A device of the same length as the packet.
pub struct Storage(Vec<AtomicU8>);

impl Storage {
    /// A device with its initial bytes.
    pub fn new(len: usize) -> Self {
        Self((0..len).map(|index| AtomicU8::new(device_byte(index))).collect())
    }

    /// The bytes now.
    pub fn load(&self, range: Range<usize>) -> Vec<u8> {
        self.0[range].iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    fn store(&self, start: usize, bytes: &[u8]) {
        self.0[start..].iter().zip(bytes).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }
}

/// The device's operations on views of one permission.
pub trait Side: PacketPerms + Send {
    /// Moves bytes with a buffer of this length.
    fn transfer(
        view: BoundPacketView<Self>,
        start: usize,
        storage: &Storage,
        buffer: usize,
    ) -> TransferredPacket<Self>;

    /// Transfers the first `bytes` direct bytes; then these bytes are done and the rest failed, or there is no answer.
    fn direct(
        direct: Self::Allocated,
        start: usize,
        storage: &Storage,
        bytes: usize,
        answer: Option<IoError>,
    );
}

/// A device's buffer of this length for this place: the storage's bytes, and other bytes behind them.
fn buffer(storage: &Storage, start: usize, len: usize, view: usize) -> Vec<u8> {
    let mut buffer = storage.load(start..start + len.min(view));
    buffer.resize(len, 0xee);
    buffer
}

impl Side for Write {
    fn transfer(
        view: BoundPacketView<Self>,
        start: usize,
        storage: &Storage,
        len: usize,
    ) -> TransferredPacket<Self> {
        let buffer = buffer(storage, start, len, view.len());
        view.transfer_data(&buffer)
    }

    fn direct(
        mut direct: WritePacketObj,
        start: usize,
        storage: &Storage,
        bytes: usize,
        answer: Option<IoError>,
    ) {
        let data = storage.load(start..start + bytes);
        // Both ways to fill the memory.
        let half = bytes / 2;
        assert_eq!(direct.put_slice(&data[..half]), half);
        direct.unfilled_mut()[..bytes - half].copy_from_slice(&data[half..]);
        direct.advance(bytes - half);
        assert_eq!(direct.filled(), bytes);
        if let Some(error) = answer {
            direct.complete_with(error);
        }
    }
}

impl Side for Read {
    fn transfer(
        view: BoundPacketView<Self>,
        start: usize,
        storage: &Storage,
        len: usize,
    ) -> TransferredPacket<Self> {
        let mut buffer = vec![0xee; len];
        let transferred = view.transfer_data(&mut buffer);
        let moved = len.min(transferred.len());
        assert!(buffer[moved..].iter().all(|byte| *byte == 0xee), "more was written than there is");
        storage.store(start, &buffer[..moved]);
        transferred
    }

    fn direct(direct: ReadPacketObj, start: usize, storage: &Storage, bytes: usize, answer: Option<IoError>) {
        storage.store(start, &direct[..bytes]);
        if let Some(error) = answer {
            direct.complete_with(bytes, error);
        }
    }
}

impl Side for ReadWrite {
    fn transfer(
        view: BoundPacketView<Self>,
        start: usize,
        storage: &Storage,
        len: usize,
    ) -> TransferredPacket<Self> {
        let mut buffer = buffer(storage, start, len, view.len());
        let transferred = view.transfer_data(&mut buffer);
        let moved = len.min(Splittable::len(&transferred));
        storage.store(start, &buffer[..moved]);
        transferred
    }

    fn direct(
        mut direct: ReadWritePacketObj,
        start: usize,
        storage: &Storage,
        bytes: usize,
        answer: Option<IoError>,
    ) {
        let mut data = storage.load(start..start + bytes);
        data.swap_with_slice(&mut direct[..bytes]);
        storage.store(start, &data);
        if let Some(error) = answer {
            direct.complete_with(bytes, error);
        }
    }
}
