//! Packets that report their segments to an output.
//!
//! A watched packet has a table of its own: a copy of its maker's table, with a function that finds the output behind the table.
//! So packets without an output pay nothing.

use super::header::{Packet, PacketTable};
use super::output::{OutputRef, RawSegment};
use crate::IoError;
use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use core::ptr::NonNull;

#[repr(C)]
struct Watched {
    /// First, so that a pointer to a `Watched` is a pointer to the table.
    table: PacketTable,
    base: *const PacketTable,
    output: OutputRef,
}

/// Gives an idle packet an output, if there is memory for that.
///
/// # Safety
///
/// The packet is idle and the caller's.
pub(super) unsafe fn start(packet: *mut Packet<()>, output: OutputRef) -> Result<(), IoError> {
    // SAFETY: the layout of a `Watched` has a size that is not zero.
    let watched = NonNull::new(unsafe { alloc(Layout::new::<Watched>()) }.cast::<Watched>());
    let watched = watched.ok_or(IoError::OUT_OF_MEMORY)?.as_ptr();
    // SAFETY: the packet is idle and the caller's; the base table lives as long as the packet, and `watched` is ours alone and
    // large enough.
    unsafe {
        stop(packet);
        let base = (*packet).table;
        watched.write(Watched { table: PacketTable { segment, ..*base }, base, output });
        (*packet).table = watched.cast_const().cast();
        (*packet).private.watched = true;
    }
    Ok(())
}

/// Takes the output away, if there is one.
///
/// # Safety
///
/// The packet is idle and the caller's, or about to be freed.
#[inline(always)]
pub(super) unsafe fn stop(packet: *mut Packet<()>) {
    // SAFETY: the packet is idle and the caller's, or about to be freed, so no other party uses it.
    unsafe {
        if (*packet).private.watched {
            take(packet);
        }
    }
}

/// Gives the packet the table of its kind again, and drops the output.
///
/// # Safety
///
/// As for [`stop`], and the packet is watched.
#[cold]
unsafe fn take(packet: *mut Packet<()>) {
    // SAFETY: the table of a watched packet was allocated by `start` as a `Box` is, and is dropped once.
    unsafe {
        let watched = Box::from_raw((*packet).table.cast_mut().cast::<Watched>());
        (*packet).table = watched.base;
        (*packet).private.watched = false;
        drop(watched);
    }
}

/// The table of the packet's kind.
///
/// # Safety
///
/// The packet is alive and the caller's.
pub(super) unsafe fn base(packet: *mut Packet<()>) -> *const PacketTable {
    // SAFETY: the packet is alive and the caller's; the table of a watched packet is the `Watched` that `start` allocated.
    unsafe {
        let table = (*packet).table;
        if (*packet).private.watched { (*table.cast::<Watched>()).base } else { table }
    }
}

/// The segment function of a watched packet.
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
        let watched = (*packet).table.cast::<Watched>();
        let bytes = (*packet).bytes;
        let bytes =
            if error != 0 || bytes.is_null() { core::ptr::null() } else { bytes.add(start).cast_const() };
        (*watched).output.tell(&RawSegment { bytes, start, end, tag, error, text, text_len });
    }
}

/// The segment function of a packet without an output. It is never called.
pub(super) unsafe extern "C" fn unwatched(
    _: *const (),
    _: usize,
    _: usize,
    _: u64,
    _: u32,
    _: *const u8,
    _: usize,
) {
}
