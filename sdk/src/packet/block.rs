//! The memory of packets: one heap block with the header, the maker's private part, and room for bytes.
//!
//! ```text
//!  0                40         48        64 (128 under the model checker)
//! ┌────────────────┬──────────┬─────────┬──────────────────────────┐
//! │ Packet (ABI)   │ failures │ waker   │ room: 64, 256, … 65536   │
//! └────────────────┴──────────┴─────────┴──────────────────────────┘
//! ```
//!
//! The room is aligned to 64 bytes: on common machines a copy to a buffer a few bytes past a page boundary is several
//! times slower than one to an aligned buffer. Blocks of the usual sizes are kept per thread and reused, so that a warm
//! program does not allocate per request.

use alloc::alloc::{Layout, alloc, dealloc};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::task::Waker;

use super::failures::Failures;
use super::header::{ATTRIBUTES, DERIVED, INITIALISED, Packet, PacketTable, Private};
use super::state::{Generation, Left};
use super::{mutant, own_table};
use crate::IoError;
use crate::firewall;
use crate::sync::UnsafeCell;

/// A packet with the parts that only its maker sees.
#[repr(C)]
pub(super) struct Block {
    /// First, so that a pointer to the block is a pointer to the packet. The permission is in the types of the handles.
    pub(super) packet: Packet<()>,
    pub(super) failures: Failures,
    /// State rule 3 defines its owner.
    pub(super) waker: UnsafeCell<Option<Waker>>,
}

/// Blocks are aligned to this: the lowest bits of a packet's address are free for the generation that a view has there.
const MIN_ALIGN: usize = 64;
const _: () = assert!(Generation::COUNT <= MIN_ALIGN && align_of::<Block>() <= MIN_ALIGN);

/// Offset of the room in a block.
const ROOM_OFFSET: usize = size_of::<Block>().next_multiple_of(64);
#[cfg(all(not(any(pactio_loom, pactio_shuttle)), target_pointer_width = "64"))]
const _: () = assert!(ROOM_OFFSET == 64 && size_of::<Block>() == 64);

/// The content of a block's room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Store {
    /// The bytes themselves.
    Bytes = 0,
    /// A [`Kept`] value that keeps the bytes, or stands for them.
    Kept = 1,
    /// Nothing: the bytes belong to another owner, or the value was taken out.
    Nothing = 2,
}

/// A value in the room of a block, with the data to move and drop it without knowledge of its type.
#[repr(C)]
struct Kept<T> {
    drop: Option<unsafe fn(NonNull<()>)>,
    /// Size of the whole struct.
    size: usize,
    value: T,
}

unsafe fn drop_kept<T>(kept: NonNull<()>) {
    // SAFETY: the caller guarantees that `kept` is a `Kept<T>` and does not use its value again.
    unsafe { ptr::drop_in_place(&raw mut (*kept.cast::<Kept<T>>().as_ptr()).value) };
}

/// Room sizes of the blocks that are kept for reuse.
const CLASS_ROOM: [usize; 6] = [64, 256, 1024, 4096, 16384, 65536];
/// The class of a block with a size that fits none of them.
const NO_CLASS: u8 = CLASS_ROOM.len() as u8;

/// Gives the smallest class with room for `len` bytes at `align`, or [`NO_CLASS`]. The room of a class has alignment 64.
#[inline(always)]
fn class_of(len: usize, align: usize) -> u8 {
    if align > 64 || len > CLASS_ROOM[CLASS_ROOM.len() - 1] {
        NO_CLASS
    } else if len <= CLASS_ROOM[0] {
        0
    } else {
        // Each room is four times as large as the room before: the highest bit of `len - 1` is 6 or 7 in class 1 (65 to 256
        // bytes), 8 or 9 in class 2, and so on.
        ((len - 1).ilog2() as u8 - 4) / 2
    }
}

/// Layout of a block and the offset of its room. `len` and `align` count only for blocks without a class.
fn layout(class: u8, len: usize, align: usize) -> Result<(Layout, usize), IoError> {
    let align = align.max(MIN_ALIGN);
    let offset = ROOM_OFFSET.next_multiple_of(align);
    let room = if class == NO_CLASS { len } else { CLASS_ROOM[class as usize] };
    let size = offset.checked_add(room).ok_or(IoError::OUT_OF_MEMORY)?;
    let layout = Layout::from_size_align(size, align).map_err(|_| IoError::OUT_OF_MEMORY)?;
    Ok((layout, offset))
}

/// The table of simple packets.
pub(super) static TABLE: PacketTable = PacketTable {
    size: size_of::<PacketTable>() as u32,
    complete,
    fail,
    segment: own_table::no_segment,
    alloc: no_alloc,
    transfer: no_transfer,
    origin: no_origin,
    attribute: own_table::no_attribute,
};

pub(super) unsafe extern "C" fn no_alloc(_: *const (), _: usize, _: usize, _: usize) -> *mut u8 {
    ptr::null_mut()
}

pub(super) unsafe extern "C" fn no_transfer(_: *const (), _: usize, _: *mut u8, _: usize) -> u32 {
    IoError::UNSUPPORTED.to_raw()
}

pub(super) unsafe extern "C" fn no_origin(_: *const ()) -> *const () {
    ptr::null()
}

/// The `complete` function of all packet kinds, called once per request by the side whose view finishes last. It gives up the
/// share of the group, which are all views together (state rule 1), and frees the block if the owner has left too. `has_waker`: 1
/// if the owner waits, and is woken.
pub(super) unsafe extern "C" fn complete(packet: *const (), has_waker: u32) {
    let block = packet.cast::<Block>().cast_mut();
    // SAFETY: state rule 3: COUNT went to 0 while WAKER was set, so the slot is ours until this call leaves the group.
    let waker = if has_waker != 0 { unsafe { (*block).waker.with_mut(|slot| (*slot).take()) } } else { None };
    // SAFETY: the group still keeps the block (state rule 1); the block is not touched afterwards unless it is ours to free.
    if unsafe { (*block).packet.state.leave_group() } == Left::Free {
        // SAFETY: owner and group have left (state rule 1).
        unsafe { free(NonNull::new_unchecked(block)) };
    }
    if let Some(waker) = waker {
        let _ = firewall::contain(|| waker.wake());
    }
}

/// Records that a range of `packet` failed: the `fail` function of all packet kinds, called by the side that holds the view.
pub(super) unsafe extern "C" fn fail(
    packet: *const (),
    start: usize,
    end: usize,
    error: u32,
    text: *const u8,
    text_len: usize,
) {
    // 0 stands for no error, so it cannot be recorded; the range failed all the same.
    let error = IoError::from_raw(error).unwrap_or(IoError::from_code(crate::Code::FAILED));
    // SAFETY: the text is borrowed for the call.
    let text = unsafe { text_of(text, text_len) };
    // SAFETY: the caller holds a view, so the block is alive (state rule 1).
    unsafe { (*packet.cast::<Block>()).failures.push(start, end, error, text) };
}

/// The text of a failure as it crosses the boundary; bytes that are not UTF-8 count as no text.
///
/// # Safety
///
/// `len` bytes are readable at `text`, or `len` is 0.
pub(super) unsafe fn text_of<'a>(text: *const u8, len: usize) -> Option<&'a str> {
    if len == 0 || text.is_null() {
        return None;
    }
    // SAFETY: `len` is not 0, so `len` bytes are readable at `text`.
    core::str::from_utf8(unsafe { core::slice::from_raw_parts(text, len) }).ok()
}

/// A block with room for `len` bytes at alignment `align`. The room holds the bytes of the packet.
#[inline]
pub(super) fn allocate(len: usize, align: usize) -> Result<NonNull<Block>, IoError> {
    debug_assert!(align.is_power_of_two());
    let class = class_of(len, align);
    // A reused block continues the generations of its earlier requests, so that a view of one of them is recognised.
    let (block, offset, last) = match pool::take(class) {
        // SAFETY: the header of a kept block stays as the last party has left it.
        Some(block) => (block, ROOM_OFFSET, unsafe { (*block.as_ptr()).packet.state.generation() }),
        None => {
            let (block, offset) = allocate_new(class, len, align)?;
            (block, offset, Generation::FIRST)
        }
    };
    let align_log2 = align.trailing_zeros() as u8;
    let private =
        Private { class, store: Store::Bytes as u8, align_log2, own_table: false, submitted: false };
    // SAFETY: `offset` is inside the allocation, or one past its end if `len` is 0.
    let room = unsafe { block.cast::<u8>().add(offset) };
    // SAFETY: the memory is ours, large enough and aligned; its old content was dropped or never existed.
    unsafe {
        block.write(Block {
            packet: Packet::new(last, &raw const TABLE, room.as_ptr(), len, private),
            failures: Failures::new(),
            waker: UnsafeCell::new(None),
        });
    }
    #[cfg(all(test, pactio_loom))]
    live::add(1);
    Ok(block)
}

/// Memory from the allocator, and the offset of its room.
#[cold]
fn allocate_new(class: u8, len: usize, align: usize) -> Result<(NonNull<Block>, usize), IoError> {
    let (layout, offset) = layout(class, len, align)?;
    // SAFETY: the size is not zero, since it contains a block.
    let block = NonNull::new(unsafe { alloc(layout) }).ok_or(IoError::OUT_OF_MEMORY)?;
    Ok((block.cast(), offset))
}

/// A block that keeps `value` in its room. Its packet has no bytes yet: see [`set_bytes`].
pub(super) fn allocate_kept<T: Send + 'static>(value: T) -> Result<NonNull<Block>, IoError> {
    const { assert!(size_of::<Kept<T>>() <= CLASS_ROOM[CLASS_ROOM.len() - 1] && align_of::<T>() <= 64) };
    let block = allocate(size_of::<Kept<T>>(), 1)?;
    let drop =
        if core::mem::needs_drop::<T>() { Some(drop_kept::<T> as unsafe fn(NonNull<()>)) } else { None };
    // SAFETY: the block is ours alone, its room is large enough and aligned to 64.
    unsafe {
        room(block).cast().write(Kept { drop, size: size_of::<Kept<T>>(), value });
        (*block.as_ptr()).packet.private.store = Store::Kept as u8;
        set_bytes(block, ptr::null_mut(), 0, true);
    }
    Ok(block)
}

/// A block for bytes that belong to another owner.
#[inline]
pub(super) fn allocate_lent(
    bytes: NonNull<u8>,
    len: usize,
    initialised: bool,
) -> Result<NonNull<Block>, IoError> {
    let block = allocate(0, 1)?;
    // SAFETY: the block is ours alone.
    unsafe {
        (*block.as_ptr()).packet.private.store = Store::Nothing as u8;
        set_bytes(block, bytes.as_ptr(), len, initialised);
    }
    Ok(block)
}

/// Points the packet at its bytes, with their length; null for a complex packet. `initialised`: every byte has a value.
///
/// # Safety
///
/// The packet is complete and the caller's, and no view of it will use its bytes. The value in the block's room (see
/// [`allocate_kept`]) or the lender keeps the bytes alive.
pub(super) unsafe fn set_bytes(block: NonNull<Block>, bytes: *mut u8, len: usize, initialised: bool) {
    let packet = block.as_ptr().cast::<Packet<()>>();
    // SAFETY: the packet is the caller's, and views that still leave it do not use these fields (state rule 5).
    unsafe {
        (*packet).bytes = bytes;
        (*packet).len = len;
        (*packet).flags = (*packet).flags & !INITIALISED | if initialised { INITIALISED } else { 0 };
    }
}

/// Marks the packet as made to answer a view of another packet, and sets its functions.
///
/// # Safety
///
/// The packet was just made and is the caller's; `table` gives its origin for as long as views of the packet exist.
pub(super) unsafe fn set_derived(block: NonNull<Block>, table: &'static PacketTable) {
    let packet = block.as_ptr().cast::<Packet<()>>();
    // SAFETY: the packet is new and the caller's; these fields are only written while no other party sees it (state rule 5).
    unsafe {
        (*packet).flags |= DERIVED;
        (*packet).table = table;
    }
}

/// Marks all bytes as initialised.
///
/// # Safety
///
/// All bytes are initialised, and the packet is idle and the caller's.
pub(super) unsafe fn set_initialised(block: NonNull<Block>) {
    // SAFETY: the packet is idle and the caller's, so the caller alone uses the flags.
    unsafe { (*block.as_ptr()).packet.flags |= INITIALISED };
}

/// The room of a block with a class.
#[inline(always)]
fn room(block: NonNull<Block>) -> NonNull<()> {
    // SAFETY: each block with a class has a room at this offset.
    unsafe { block.cast::<u8>().add(ROOM_OFFSET).cast() }
}

/// The content of the room of the block.
///
/// # Safety
///
/// The block is alive, and the caller is its owner or its last user.
unsafe fn store(block: NonNull<Block>) -> Store {
    // SAFETY: the field belongs to the owner, and after the owner has left to the party that frees the block.
    match unsafe { (*block.as_ptr()).packet.private.store } {
        0 => Store::Bytes,
        1 => Store::Kept,
        _ => Store::Nothing,
    }
}

/// The value that the block keeps.
///
/// # Safety
///
/// The block was made by [`allocate_kept`] with this type, the value was not taken, and the block is alive for `'a`.
pub(super) unsafe fn kept<'a, T>(block: *const Block) -> &'a T {
    // SAFETY: the room holds a `Kept<T>`, its value was not taken, and the block is alive for `'a`.
    unsafe { &(*room(NonNull::new_unchecked(block.cast_mut())).cast::<Kept<T>>().as_ptr()).value }
}

/// The value that the block keeps, as a mutable reference.
///
/// # Safety
///
/// As for [`kept`]; the packet is complete and the caller's, and no other code uses the value for `'a`.
pub(super) unsafe fn kept_mut<'a, T>(block: NonNull<Block>) -> &'a mut T {
    // SAFETY: the room holds a `Kept<T>`, its value was not taken, the block is alive for `'a`, and no other code uses the value.
    unsafe { &mut (*room(block).cast::<Kept<T>>().as_ptr()).value }
}

/// Takes the kept value out; the packet has no bytes afterwards.
///
/// # Safety
///
/// As for [`kept`]; the packet is complete and the caller's, and was not renewed since.
pub(super) unsafe fn take_kept<T>(block: NonNull<Block>) -> T {
    // SAFETY: by the contract no other party looks at the bytes. A last view that is about to leave touches only the word and the
    // waker slot. If this view frees the block, it sees that no value is kept any more.
    unsafe {
        debug_assert!(store(block) == Store::Kept);
        (*block.as_ptr()).packet.private.store = Store::Nothing as u8;
        // Not null, since null marks a complex packet; from here on this is a simple packet of length 0.
        set_bytes(block, ptr::dangling_mut(), 0, true);
        ptr::read(&raw const (*room(block).cast::<Kept<T>>().as_ptr()).value)
    }
}

/// Removes the record of failures.
///
/// # Safety
///
/// The packet is complete and the caller's.
pub(super) unsafe fn forget_failures(block: NonNull<Block>) {
    // SAFETY: the packet is complete and the caller's, and so are its failures; a last view that is about to leave does not read
    // them (state rule 4).
    unsafe { (*block.as_ptr()).failures.clear() };
}

/// The block still keeps the value that it was made with.
///
/// # Safety
///
/// The block is the caller's.
pub(super) unsafe fn keeps(block: NonNull<Block>) -> bool {
    // SAFETY: the block is the caller's, so it is alive and the caller is its owner.
    unsafe { store(block) == Store::Kept }
}

/// Moves the bytes into a fresh block, for a packet with a last view that has not left the old block yet.
///
/// # Safety
///
/// The packet is complete and the caller's. The old block keeps no bytes that any party may look at.
#[cold]
pub(super) unsafe fn renew(block: NonNull<Block>) -> Result<NonNull<Block>, IoError> {
    let packet = block.as_ptr().cast::<Packet<()>>();
    // SAFETY: no other party writes these fields, and the bytes are the owner's (state rules 2 and 5).
    unsafe {
        let (bytes, len, flags) = ((*packet).bytes, (*packet).len, (*packet).flags);
        let initialised = flags & INITIALISED != 0;
        let fresh = match store(block) {
            Store::Bytes => {
                let fresh = allocate(len, 1 << (*packet).private.align_log2)?;
                let to = &raw mut (*fresh.as_ptr()).packet;
                ptr::copy_nonoverlapping(bytes.cast::<MaybeUninit<u8>>(), (*to).bytes.cast(), len);
                fresh
            }
            Store::Kept => {
                let from = room(block);
                let size = from.cast::<Kept<()>>().as_ref().size;
                let fresh = allocate(size, 1)?;
                ptr::copy_nonoverlapping(
                    from.cast::<MaybeUninit<u8>>().as_ptr(),
                    room(fresh).cast().as_ptr(),
                    size,
                );
                // The value has moved: the party that frees the old block must not drop it too.
                mutant!("renew_keeps_twice", (), (*packet).private.store = Store::Nothing as u8);
                (*fresh.as_ptr()).packet.private.store = Store::Kept as u8;
                set_bytes(fresh, bytes, len, initialised);
                fresh
            }
            Store::Nothing => allocate_lent(NonNull::new_unchecked(bytes), len, initialised)?,
        };
        // Output and attributes of the last request stay with the old block.
        (*fresh.as_ptr()).packet.table = own_table::base(packet);
        (*fresh.as_ptr()).packet.flags = flags & !ATTRIBUTES;
        (*fresh.as_ptr()).packet.private.submitted = (*packet).private.submitted;
        Ok(fresh)
    }
}

/// Frees a block and its content.
///
/// # Safety
///
/// Owner and group have left (state rule 1).
#[inline]
pub(super) unsafe fn free(block: NonNull<Block>) {
    let inner = block.as_ptr();
    // SAFETY: both parties have left, so everything is this caller's.
    unsafe {
        (*inner).packet.state.retire();
        (*inner).failures.clear();
        // Dropped at the end, since its drop runs foreign code. The slot is empty, unless a poll panicked while it
        // cloned the task's waker.
        let stale = (*inner).waker.with_mut(|slot| (*slot).take());
        own_table::stop(&raw mut (*inner).packet);
        if store(block) == Store::Kept
            && let Some(drop) = room(block).cast::<Kept<()>>().as_ref().drop
        {
            // The drop of a user's value may panic, and this may be a device's thread.
            let _ = firewall::contain(|| drop(room(block)));
        }
        #[cfg(all(test, pactio_loom))]
        live::add(-1);
        // No other field has a drop, except with the types of the model checkers.
        #[cfg(any(pactio_loom, pactio_shuttle))]
        ptr::drop_in_place(inner);
        if !pool::give((*inner).packet.private.class, block) {
            deallocate(block);
        }
        if let Some(waker) = stale {
            let _ = firewall::contain(|| drop(waker));
        }
    }
}

/// Gives the memory back to the allocator.
///
/// # Safety
///
/// The block is the caller's and holds nothing any more, but its plain fields are unchanged.
#[cold]
unsafe fn deallocate(block: NonNull<Block>) {
    // SAFETY: the block is the caller's, and its plain fields are unchanged.
    let (private, len) = unsafe { ((*block.as_ptr()).packet.private, (*block.as_ptr()).packet.len) };
    // The layout was computed in the same way when the block was allocated.
    if let Ok((layout, _)) = layout(private.class, len, 1 << private.align_log2) {
        // SAFETY: the block was allocated with this layout.
        unsafe { dealloc(block.as_ptr().cast(), layout) };
    }
}

/// Blocks kept for reuse, per thread and class.
#[cfg(all(feature = "std", not(any(pactio_loom, pactio_shuttle, pactio_no_pool))))]
mod pool {
    use super::{Block, CLASS_ROOM, Failures, ROOM_OFFSET, layout};
    use alloc::alloc::dealloc;
    use core::cell::Cell;
    use core::ptr::NonNull;

    /// Number of bytes that are kept at most per class and thread.
    const KEPT_BYTES: usize = 1 << 19;

    /// A kept block has a pointer to the next block in the place of its failures. The header stays as it is, so that a view that
    /// is answered a second time finds no request.
    type Link = Option<NonNull<Block>>;

    /// The place of a kept block's link.
    ///
    /// # Safety
    ///
    /// The block is the caller's.
    #[inline(always)]
    unsafe fn link(block: NonNull<Block>) -> *mut Link {
        const {
            assert!(
                size_of::<Failures>() >= size_of::<Link>() && align_of::<Failures>() >= align_of::<Link>()
            )
        };
        // SAFETY: the block is the caller's, so it is allocated.
        unsafe { (&raw mut (*block.as_ptr()).failures).cast() }
    }

    struct Shelf {
        first: Cell<Link>,
        count: Cell<usize>,
    }

    struct Pool([Shelf; CLASS_ROOM.len()]);

    std::thread_local! {
        static POOL: Pool = const {
            Pool([const { Shelf { first: Cell::new(None), count: Cell::new(0) } }; CLASS_ROOM.len()])
        };
    }

    /// Takes a kept block of this class out of the thread's pool, if there is one. `NO_CLASS` has no shelf.
    #[inline]
    pub(super) fn take(class: u8) -> Option<NonNull<Block>> {
        // While the thread ends, the pool may be destroyed already; blocks come from the allocator in that case.
        POOL.try_with(|pool| {
            let shelf = pool.0.get(class as usize)?;
            let block = shelf.first.get()?;
            // SAFETY: the block is kept here, so it has a link, which `give` has written.
            shelf.first.set(unsafe { link(block).read() });
            shelf.count.set(shelf.count.get() - 1);
            Some(block)
        })
        .ok()
        .flatten()
    }

    /// `true` if no block is kept, so that a memory checker sees the end of each block. For builds with debug assertions.
    #[cfg(debug_assertions)]
    fn is_off() -> bool {
        static OFF: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *OFF.get_or_init(|| std::env::var_os("PACTIO_NO_POOL").is_some())
    }

    /// Keeps a block for reuse, unless enough are kept. `false`: the block is not kept, and the caller frees it.
    ///
    /// The block is the caller's and holds nothing.
    #[inline]
    pub(super) fn give(class: u8, block: NonNull<Block>) -> bool {
        #[cfg(debug_assertions)]
        if is_off() {
            return false;
        }
        POOL.try_with(|pool| {
            let Some(shelf) = pool.0.get(class as usize) else { return false };
            let count = shelf.count.get();
            if count >= KEPT_BYTES / (CLASS_ROOM[class as usize] + ROOM_OFFSET) {
                return false;
            }
            // SAFETY: the block is the caller's, and its failures were dropped.
            unsafe { link(block).write(shelf.first.get()) };
            shelf.first.set(Some(block));
            shelf.count.set(count + 1);
            true
        })
        .unwrap_or(false)
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            for (class, shelf) in self.0.iter().enumerate() {
                let Ok((layout, _)) = layout(class as u8, 0, 1) else { continue };
                while let Some(block) = shelf.first.get() {
                    // SAFETY: the block is kept here, so it has a link, which `give` has written, and the layout of its class.
                    unsafe {
                        shelf.first.set(link(block).read());
                        dealloc(block.as_ptr().cast(), layout);
                    }
                }
            }
        }
    }
}

/// No reuse: the model checker and the sanitizers see every allocation, and without the standard library there is no place per
/// thread.
#[cfg(any(not(feature = "std"), pactio_loom, pactio_shuttle, pactio_no_pool))]
mod pool {
    use super::Block;
    use core::ptr::NonNull;

    pub(super) fn take(_class: u8) -> Option<NonNull<Block>> {
        None
    }

    pub(super) fn give(_class: u8, _block: NonNull<Block>) -> bool {
        false
    }
}

/// Number of blocks that are alive. A model runs all its threads on one thread of the system, so each model has its own count.
#[cfg(all(test, pactio_loom))]
pub(super) mod live {
    use std::cell::Cell;

    std::thread_local! {
        static LIVE: Cell<isize> = const { Cell::new(0) };
    }

    pub(super) fn add(count: isize) {
        LIVE.set(LIVE.get() + count);
    }

    pub(in crate::packet) fn blocks() -> isize {
        LIVE.get()
    }
}
