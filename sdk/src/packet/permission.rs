//! What a device may do with a packet's bytes.

use abi_stable::StableAbi;

/// The packet's bytes may be read by the device: the packet is a *write request*.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct Read;

/// The packet's bytes may be written by the device: the packet is a *read request*.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct Write;

/// A permission: [`Read`] or [`Write`].
pub trait PacketPerms: sealed::Sealed + Copy + Send + Sync + StableAbi + 'static {
    /// What a view becomes when the device gets the packet's own bytes.
    type Allocated;

    #[doc(hidden)]
    fn allocated(view: super::BoundPacketView<Self>) -> Self::Allocated;
}

impl PacketPerms for Read {
    type Allocated = super::ReadPacketObj;

    fn allocated(view: super::BoundPacketView<Self>) -> Self::Allocated {
        super::ReadPacketObj::new(view)
    }
}

impl PacketPerms for Write {
    type Allocated = super::WritePacketObj;

    fn allocated(view: super::BoundPacketView<Self>) -> Self::Allocated {
        super::WritePacketObj::new(view)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Read {}
    impl Sealed for super::Write {}
}
