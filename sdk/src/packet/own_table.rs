//! Packets with a table of their own, for one request: an output that receives the segments, and attributes that views show.
//!
//! The table is a copy of the table of the packet's kind, with functions that find output and attributes behind it. So requests
//! without them pay nothing.

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use core::ptr::NonNull;

use super::attributes::Attributes;
use super::header::{ATTRIBUTES, Packet, PacketTable};
use super::output::{OutputRef, RawSegment};
use crate::IoError;

#[repr(C)]
struct OwnTable {
    /// First, so that a pointer to an `OwnTable` is a pointer to the table.
    table: PacketTable,
    base: *const PacketTable,
    output: Option<OutputRef>,
    attributes: Option<Attributes>,
}

/// Gives an idle packet an output and attributes, if there is memory for them.
///
/// # Safety
///
/// The packet is idle and the caller's.
pub(super) unsafe fn start(
    packet: *mut Packet<()>,
    output: Option<OutputRef>,
    attributes: Option<Attributes>,
) -> Result<(), IoError> {
    // SAFETY: the layout of an `OwnTable` has a size that is not zero.
    let own = NonNull::new(unsafe { alloc(Layout::new::<OwnTable>()) }.cast::<OwnTable>());
    let own = own.ok_or(IoError::OUT_OF_MEMORY)?.as_ptr();
    // SAFETY: the packet is idle and the caller's; the base table lives as long as the packet, and `own` is ours alone and large
    // enough.
    unsafe {
        stop(packet);
        let base = (*packet).table;
        if attributes.is_some() {
            (*packet).flags |= ATTRIBUTES;
        }
        own.write(OwnTable { table: PacketTable { segment, attribute, ..*base }, base, output, attributes });
        (*packet).table = own.cast_const().cast();
        (*packet).private.own_table = true;
    }
    Ok(())
}

/// Takes output and attributes away, if there are any.
///
/// # Safety
///
/// The packet is idle and the caller's, or about to be freed.
#[inline(always)]
pub(super) unsafe fn stop(packet: *mut Packet<()>) {
    // SAFETY: the packet is idle and the caller's, or about to be freed, so no other party uses it.
    unsafe {
        if (*packet).private.own_table {
            take(packet);
        }
    }
}

/// Gives the packet the table of its kind again, and drops output and attributes.
///
/// # Safety
///
/// As for [`stop`], and the packet has a table of its own.
#[cold]
unsafe fn take(packet: *mut Packet<()>) {
    // SAFETY: an own table was allocated by `start` as a `Box` is, and is dropped once.
    unsafe {
        let own = Box::from_raw((*packet).table.cast_mut().cast::<OwnTable>());
        (*packet).table = own.base;
        (*packet).flags &= !ATTRIBUTES;
        (*packet).private.own_table = false;
        drop(own);
    }
}

/// The table of the packet's kind.
///
/// # Safety
///
/// The packet is alive and the caller's.
pub(super) unsafe fn base(packet: *mut Packet<()>) -> *const PacketTable {
    // SAFETY: the packet is alive and the caller's; an own table is the `OwnTable` that `start` allocated.
    unsafe {
        let table = (*packet).table;
        if (*packet).private.own_table { (*table.cast::<OwnTable>()).base } else { table }
    }
}

/// The segment function of a packet with an output.
unsafe extern "C" fn segment(
    packet: *const (),
    start: usize,
    end: usize,
    tag: u64,
    error: u32,
    text: *const u8,
    text_len: usize,
) {
    // SAFETY: the caller holds a view of this range that has not finished, so header and table are alive, and the bytes of the
    // range are not written any more. These bytes are initialised if the range was done. A complex packet has no bytes: its
    // pointer is null.
    unsafe {
        let packet = packet.cast::<Packet<()>>();
        let own = (*packet).table.cast::<OwnTable>();
        let bytes = (*packet).bytes;
        let bytes =
            if error != 0 || bytes.is_null() { core::ptr::null() } else { bytes.add(start).cast_const() };
        if let Some(output) = &(*own).output {
            output.tell(&RawSegment { bytes, start, end, tag, error, text, text_len });
        }
    }
}

/// The attribute function of a packet with attributes.
unsafe extern "C" fn attribute(packet: *const (), id: u32) -> u64 {
    // SAFETY: the caller holds a view, so header and table are alive.
    unsafe {
        let own = (*packet.cast::<Packet<()>>()).table.cast::<OwnTable>();
        (*own).attributes.as_ref().map_or(0, |attributes| attributes.number(id))
    }
}

/// The segment function of a packet without an output. It is never called.
pub(super) unsafe extern "C" fn no_segment(
    _: *const (),
    _: usize,
    _: usize,
    _: u64,
    _: u32,
    _: *const u8,
    _: usize,
) {
}

/// The attribute function of a packet without attributes.
pub(super) unsafe extern "C" fn no_attribute(_: *const (), _: u32) -> u64 {
    0
}
