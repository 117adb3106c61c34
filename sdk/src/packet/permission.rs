//! Permissions: the access of a device to a packet's bytes.

use core::ptr;

use super::{AllocatedPacket, BoundPacketView, ReadPacketObj, ReadWritePacketObj, WritePacketObj};
use crate::Crossing;

/// The packet's bytes may be read by the device: the packet is a *write request*.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct Read;

/// The packet's bytes may be written by the device: the packet is a *read request*.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct Write;

/// The packet's bytes and the device's change places: the packet is an *exchange*.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct ReadWrite;

/// A permission, named from the packet's side: [`Read`], [`Write`] or [`ReadWrite`].
///
/// The trait is sealed: a packet's function table can be made only for these three, and a value that crosses the boundary states
/// its permission by its type alone. A fourth permission of another crate would have no table, and no device would know it.
///
/// The function table of a [`ComplexPacket`](super::ComplexPacket) is made for one of these permissions.
pub trait PacketPerms: sealed::Sealed + Copy + Send + Sync + Crossing + 'static {
    /// Name of the operation that a request with this permission performs, for messages: `read`, `write` or `exchange`.
    const REQUEST: &'static str;

    /// The request is a read: the bytes of its packet are written and not read.
    #[doc(hidden)]
    const IS_READ: bool = false;

    /// The device's side of a transfer: `&mut [u8]` for [`Read`], `&[u8]` for [`Write`], `&mut [u8]` for [`ReadWrite`].
    type Data<'a>;

    /// The form of a view that gives the device direct access to the packet's own bytes.
    type Allocated: AllocatedPacket;

    #[doc(hidden)]
    fn allocated(view: BoundPacketView<Self>, bytes: *mut u8) -> Self::Allocated;

    /// Start and length of the device's memory.
    #[doc(hidden)]
    fn memory(data: Self::Data<'_>) -> (*mut u8, usize);

    /// # Safety
    ///
    /// The memory came from [`memory`](Self::memory), is still borrowed, and is used by no other code.
    #[doc(hidden)]
    unsafe fn data<'a>(start: *mut u8, len: usize) -> Self::Data<'a>;

    /// Moves `len` bytes between the packet's and the device's memory.
    ///
    /// # Safety
    ///
    /// Both have `len` bytes, do not overlap, and may be accessed as the permission says.
    #[doc(hidden)]
    unsafe fn transfer(packet: *mut u8, device: *mut u8, len: usize);
}

impl PacketPerms for Read {
    const REQUEST: &'static str = "write";

    type Data<'a> = &'a mut [u8];
    type Allocated = ReadPacketObj;

    #[inline(always)]
    fn allocated(view: BoundPacketView<Self>, bytes: *mut u8) -> ReadPacketObj {
        ReadPacketObj::new(view, bytes)
    }

    #[inline(always)]
    fn memory(data: &mut [u8]) -> (*mut u8, usize) {
        (data.as_mut_ptr(), data.len())
    }

    unsafe fn data<'a>(start: *mut u8, len: usize) -> &'a mut [u8] {
        // SAFETY: the memory came from `memory`, is still borrowed, and is used by no other code.
        unsafe { core::slice::from_raw_parts_mut(start, len) }
    }

    #[inline(always)]
    unsafe fn transfer(packet: *mut u8, device: *mut u8, len: usize) {
        // SAFETY: both have `len` bytes and do not overlap; the packet's bytes may be read, and the device's memory may be
        // written.
        unsafe { ptr::copy_nonoverlapping(packet, device, len) };
    }
}

impl PacketPerms for Write {
    const REQUEST: &'static str = "read";
    const IS_READ: bool = true;

    type Data<'a> = &'a [u8];
    type Allocated = WritePacketObj;

    #[inline(always)]
    fn allocated(view: BoundPacketView<Self>, bytes: *mut u8) -> WritePacketObj {
        WritePacketObj::new(view, bytes)
    }

    #[inline(always)]
    fn memory(data: &[u8]) -> (*mut u8, usize) {
        (data.as_ptr().cast_mut(), data.len())
    }

    unsafe fn data<'a>(start: *mut u8, len: usize) -> &'a [u8] {
        // SAFETY: the memory came from `memory`, is still borrowed, and is used by no other code.
        unsafe { core::slice::from_raw_parts(start, len) }
    }

    #[inline(always)]
    unsafe fn transfer(packet: *mut u8, device: *mut u8, len: usize) {
        // SAFETY: both have `len` bytes and do not overlap; the device's memory may be read, and the packet's bytes may be
        // written.
        unsafe { ptr::copy_nonoverlapping(device.cast_const(), packet, len) };
    }
}

impl PacketPerms for ReadWrite {
    const REQUEST: &'static str = "exchange";

    type Data<'a> = &'a mut [u8];
    type Allocated = ReadWritePacketObj;

    #[inline(always)]
    fn allocated(view: BoundPacketView<Self>, bytes: *mut u8) -> ReadWritePacketObj {
        ReadWritePacketObj::new(view, bytes)
    }

    #[inline(always)]
    fn memory(data: &mut [u8]) -> (*mut u8, usize) {
        (data.as_mut_ptr(), data.len())
    }

    unsafe fn data<'a>(start: *mut u8, len: usize) -> &'a mut [u8] {
        // SAFETY: the memory came from `memory`, is still borrowed, and is used by no other code.
        unsafe { core::slice::from_raw_parts_mut(start, len) }
    }

    #[inline(always)]
    unsafe fn transfer(packet: *mut u8, device: *mut u8, len: usize) {
        // SAFETY: both have `len` bytes and do not overlap; both may be read and written.
        unsafe { ptr::swap_nonoverlapping(packet, device, len) };
    }
}

/// A permission of packets that have their bytes set before they are sent.
pub trait Filled: PacketPerms {}

impl Filled for Read {}
impl Filled for ReadWrite {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Read {}
    impl Sealed for super::Write {}
    impl Sealed for super::ReadWrite {}
}
