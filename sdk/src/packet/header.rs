//! The start of every packet: the part that both sides of the ABI see.

use core::marker::PhantomData;

use super::state::StateWord;
use crate::IoError;

/// The header at the start of every packet.
///
/// It is shared by the owner and every view, possibly on both sides of the ABI, and only ever reached through shared
/// pointers. The permission `Perms` says what a device may do with the bytes. Requests are made and owned through
/// [`PacketBox`](super::PacketBox) and its relatives:
///
/// | kind | bytes | made by |
/// |------|-------|---------|
/// | simple, direct | behind the header, in one block | [`new_buf`](Self::new_buf), [`FullPacket`](super::FullPacket) |
/// | simple, indirect | anywhere, kept by the block | [`VecPacket`](super::VecPacket), [`OwnedPacket`](super::OwnedPacket), [`RefPacket`](super::RefPacket) |
/// | complex | none: functions stand for them | [`ComplexPacket`](super::ComplexPacket) |
///
/// A view does not need to know whether a simple packet is direct: `bytes` points to them either way. It is null for
/// complex packets.
#[repr(C)]
pub struct Packet<Perms> {
    pub(super) state: StateWord,
    /// What needs the maker's code: set by the side that made the packet, called by whoever holds a view. It lives, and
    /// stays the same, while GROUP is set.
    pub(super) table: *const PacketTable,
    /// The bytes, or null. Their address and length never change while views exist.
    pub(super) bytes: *mut u8,
    pub(super) len: usize,
    /// 1 if every byte was initialised before the packet was submitted.
    pub(super) initialised: u8,
    /// For the maker.
    pub(super) private: Private,
    _perms: PhantomData<Perms>,
}

/// ===== The functions of a packet's maker =====
///
/// All may be called from any thread, do not unwind, and belong to the library that made the packet, which stays
/// loaded for the life of the process. The caller of all but `complete` holds a view of the range that has not finished.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PacketTable {
    /// Size of this table in bytes; it grows at the end.
    pub(super) size: u32,
    /// Completes the packet: the caller was the last view and may not touch the packet afterwards. `waker` says that the
    /// waker slot belongs to the caller (state rule 3).
    pub(super) complete: unsafe extern "C" fn(packet: *const (), waker: bool),
    /// Records that a range failed.
    pub(super) fail: unsafe extern "C" fn(packet: *const (), start: usize, end: usize, error: IoError),
    /// Tells the output of a watched packet of a segment. `error` is 0 if it was done.
    pub(super) segment:
        unsafe extern "C" fn(packet: *const (), start: usize, end: usize, tag: u64, error: u32),
    /// Memory for a range of a complex packet that is valid until the range is answered, or null.
    pub(super) alloc:
        unsafe extern "C" fn(packet: *const (), start: usize, end: usize, align: usize) -> *mut u8,
    /// Moves bytes between a range of a complex packet and the device's memory; gives 0 or the error.
    pub(super) transfer:
        unsafe extern "C" fn(packet: *const (), start: usize, device: *mut u8, len: usize) -> u32,
}

/// What the maker of a packet remembers of its memory. Nobody else reads it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Private {
    /// Size class of the block.
    pub(super) class: u8,
    /// What keeps the bytes.
    pub(super) store: u8,
    /// Binary logarithm of the alignment that was asked for.
    pub(super) align_log2: u8,
    /// The table is a [`Watched`](super::watch) one.
    pub(super) watched: bool,
    /// The packet was bound at least once.
    pub(super) submitted: bool,
}

impl<Perms> Packet<Perms> {
    #[inline(always)]
    pub(super) fn new(table: *const PacketTable, bytes: *mut u8, len: usize, private: Private) -> Self {
        Self { state: StateWord::idle(), table, bytes, len, initialised: 0, private, _perms: PhantomData }
    }
}

/// What the ABI's fingerprint says of the header and its table.
#[cfg(feature = "plugin")]
pub(super) mod boundary {
    use super::{Packet, PacketTable};
    use crate::abi::{Fingerprint, fingerprint_struct};

    pub(in crate::packet) const fn describe(print: Fingerprint) -> Fingerprint {
        let print = fingerprint_struct!(
            print,
            Packet<super::super::Read>,
            "Packet" { state, table, bytes, len, initialised, private }
        );
        let print = fingerprint_struct!(
            print, PacketTable, "PacketTable" { size, complete, fail, segment, alloc, transfer }
        );
        // The protocol of the word is part of the ABI: each side changes it directly.
        print
            .text("state: count 0..32, waker 32, owner 33, group 34, watched 35, cancelled 36, splits 37..64")
            .text("complete: unsafe extern C fn(*const (), bool)")
            .text("fail: unsafe extern C fn(*const (), usize, usize, IoError)")
            .text("segment: unsafe extern C fn(*const (), usize, usize, u64, u32)")
            .text("alloc: unsafe extern C fn(*const (), usize, usize, usize) -> *mut u8")
            .text("transfer: unsafe extern C fn(*const (), usize, *mut u8, usize) -> u32")
    }
}
