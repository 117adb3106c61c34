//! The start of every packet: the part that both sides of the ABI see.

use core::marker::PhantomData;

use super::state::{Generation, StateWord};

/// The header at the start of every packet.
///
/// The header is shared by the owner and every view, possibly on both sides of the ABI, and only reached through shared pointers.
/// The permission `Perms` states how a device may use the bytes. Requests are made and owned through
/// [`PacketBox`](super::PacketBox) and its relatives:
///
/// | kind | bytes | made by |
/// |------|-------|---------|
/// | simple, direct | behind the header, in one block | [`new_buf`](Self::new_buf), [`FullPacket`](super::FullPacket) |
/// | simple, indirect | anywhere, kept by the block | [`VecPacket`](super::VecPacket), [`OwnedPacket`](super::OwnedPacket), [`RefPacket`](super::RefPacket) |
/// | complex | none: functions produce or consume them | [`ComplexPacket`](super::ComplexPacket) |
///
/// A view does not need to know whether a simple packet is direct: `bytes` points to the bytes in both cases. The pointer is null
/// for complex packets.
#[repr(C)]
pub struct Packet<Perms> {
    pub(super) state: StateWord,
    /// The functions of the maker: set by the side that made the packet, called by the side that holds a view. The table lives,
    /// and stays the same, while GROUP is set.
    pub(super) table: *const PacketTable,
    /// The bytes, or null. Their address and length never change while views exist.
    pub(super) bytes: *mut u8,
    pub(super) len: usize,
    /// Bits: [`INITIALISED`], [`DERIVED`], [`ATTRIBUTES`].
    pub(super) flags: u8,
    /// Data of the maker.
    pub(super) private: Private,
    _perms: PhantomData<Perms>,
}

/// Flag of a header: every byte was initialised before the packet was submitted.
pub(super) const INITIALISED: u8 = 1;
/// Flag of a header: the packet was made to answer a view of another one, which [`PacketTable::origin`] gives.
pub(super) const DERIVED: u8 = 2;
/// Flag of a header: the request has attributes, which [`PacketTable::attribute`] gives.
pub(super) const ATTRIBUTES: u8 = 4;

/// ===== The functions of a packet's maker =====
///
/// All functions may be called from any thread, do not unwind, and belong to the library that made the packet, which stays loaded
/// for the life of the process. The caller of all but `complete` holds a view of the range that has not finished.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PacketTable {
    /// Size of this table in bytes; it grows at the end.
    pub(super) size: u32,
    /// Completes the packet: the caller was the last view and may not touch the packet afterwards. `waker` is 1 if the waker
    /// slot belongs to the caller (state rule 3).
    pub(super) complete: unsafe extern "C" fn(packet: *const (), waker: u32),
    /// Records that a range failed. The text may be empty; it is UTF-8 and borrowed for the call.
    pub(super) fail: unsafe extern "C" fn(
        packet: *const (),
        start: usize,
        end: usize,
        error: u32,
        text: *const u8,
        text_len: usize,
    ),
    /// Reports a segment to the output of a packet with an output. `error` is 0 if the segment was done; the text is as for
    /// `fail`.
    pub(super) segment: unsafe extern "C" fn(
        packet: *const (),
        start: usize,
        end: usize,
        tag: u64,
        error: u32,
        text: *const u8,
        text_len: usize,
    ),
    /// Memory for a range of a complex packet that is valid until the range is answered, or null.
    pub(super) alloc:
        unsafe extern "C" fn(packet: *const (), start: usize, end: usize, align: usize) -> *mut u8,
    /// Moves bytes between a range of a complex packet and the device's memory; gives 0 or the error.
    pub(super) transfer:
        unsafe extern "C" fn(packet: *const (), start: usize, device: *mut u8, len: usize) -> u32,
    /// The packet that a [`DERIVED`] packet was made for. It lives for as long as the caller's view.
    pub(super) origin: unsafe extern "C" fn(packet: *const ()) -> *const (),
    /// A number that the request tells, by the number of the [attribute](super::attributes); 0 for unknown ones. The table of 1.0
    /// ends before this function, which is called only if [`ATTRIBUTES`] is set.
    pub(super) attribute: unsafe extern "C" fn(packet: *const (), id: u32) -> u64,
}

/// The maker's data about the memory of a packet. No other party reads it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Private {
    /// Size class of the block.
    pub(super) class: u8,
    /// The content of the room: a `Store` of the block.
    pub(super) store: u8,
    /// Binary logarithm of the requested alignment.
    pub(super) align_log2: u8,
    /// The table is of this packet alone: see [`own_table`](super::own_table).
    pub(super) own_table: bool,
    /// The packet was bound, or filled without a view.
    pub(super) submitted: bool,
}

impl<Perms> Packet<Perms> {
    #[inline(always)]
    pub(super) fn new(
        last: Generation,
        table: *const PacketTable,
        bytes: *mut u8,
        len: usize,
        private: Private,
    ) -> Self {
        Self { state: StateWord::idle(last), table, bytes, len, flags: 0, private, _perms: PhantomData }
    }
}

/// The header and its table in the ABI's fingerprint.
#[cfg(feature = "plugin")]
pub(super) mod boundary {
    use core::mem::offset_of;

    use super::{Packet, PacketTable};
    use crate::fingerprint::{Fingerprint, fingerprint_fields, fingerprint_struct};

    pub(in crate::packet) const fn describe(print: Fingerprint) -> Fingerprint {
        let print = fingerprint_struct!(
            print,
            Packet<super::super::Read>,
            "Packet" { state, table, bytes, len, flags, private }
        );
        // The table has grown since 1.0. A reader knows by ATTRIBUTES that the new functions are there, so the fingerprint covers
        // the first ones.
        let print = print
            .text("PacketTable")
            .number(offset_of!(PacketTable, attribute))
            .number(align_of::<PacketTable>());
        let print = fingerprint_fields!(
            print,
            PacketTable { size, complete, fail, segment, alloc, transfer, origin }
        );
        // The protocol of the state word is part of the ABI: each side changes the word directly.
        print
            .text("state: count 0..32, waker 32, owner 33, group 34, watched 35, cancelled 36, generation 37..43, splits 43..64")
            .text("view: the address of a packet, of which the lowest six bits are its generation")
            .text("flags: initialised 1, derived 2")
            .text("complete: unsafe extern C fn(*const (), u32)")
            .text("fail: unsafe extern C fn(*const (), usize, usize, u32, *const u8, usize)")
            .text("segment: unsafe extern C fn(*const (), usize, usize, u64, u32, *const u8, usize)")
            .text("alloc: unsafe extern C fn(*const (), usize, usize, usize) -> *mut u8")
            .text("transfer: unsafe extern C fn(*const (), usize, *mut u8, usize) -> u32")
            .text("origin: unsafe extern C fn(*const ()) -> *const ()")
    }
}
