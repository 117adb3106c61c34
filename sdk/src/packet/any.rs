//! Types that store a view of any state and any permission, and the operations that all views have.

use super::{BoundPacketView, PacketPerms, Read, ReadWrite, TransferredPacket, Write};
use crate::{Cause, IoError};

/// A value that covers a range of bytes and can be cut in two.
///
/// A `Result` of two such types is such a type too, for example the result of [`BoundPacketView::try_alloc`]:
///
/// ```
/// use pactio_sdk::{IoError, Errorable, PacketBox, Splittable, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(10)?;
/// let (front, back) = packet.bind()?.try_alloc(1).split_at(4);
/// assert_eq!((Splittable::len(&front), Splittable::len(&back)), (4, 6));
/// front.error(IoError::END);
/// back.error(IoError::END);
/// # Ok::<(), IoError>(())
/// ```
pub trait Splittable: Sized {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// There are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `at` bytes and the rest; positions past the end count as the end.
    fn split_at(self, at: usize) -> (Self, Self);
}

/// A value that owes an answer, which may be a failure.
pub trait Errorable: Sized {
    /// Fails the whole range.
    fn error(self, error: IoError);

    /// Fails the whole range, with the cause's text for people, if it has one.
    fn fail(self, cause: &Cause);
}

impl<A: Splittable, B: Splittable> Splittable for Result<A, B> {
    fn len(&self) -> usize {
        match self {
            Ok(this) => this.len(),
            Err(this) => this.len(),
        }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Ok(this) => {
                let (front, back) = this.split_at(at);
                (Ok(front), Ok(back))
            }
            Err(this) => {
                let (front, back) = this.split_at(at);
                (Err(front), Err(back))
            }
        }
    }
}

impl<A: Errorable, B: Errorable> Errorable for Result<A, B> {
    fn error(self, error: IoError) {
        match self {
            Ok(this) => this.error(error),
            Err(this) => this.error(error),
        }
    }

    fn fail(self, cause: &Cause) {
        match self {
            Ok(this) => this.fail(cause),
            Err(this) => this.fail(cause),
        }
    }
}

/// The result of [`BoundPacketView::try_alloc`]: a view with direct bytes, or the view without them.
pub type MaybeAlloced<Perms> = Result<<Perms as PacketPerms>::Allocated, BoundPacketView<Perms>>;

/// A view with direct bytes, or a view after its bytes were moved.
pub type AllocedOrTransferred<Perms> = Result<<Perms as PacketPerms>::Allocated, TransferredPacket<Perms>>;

/// A view in any state.
#[allow(missing_debug_implementations)]
#[must_use = "a view that is dropped fails its range"]
pub enum StandardPktVariations<Perms: PacketPerms> {
    /// As the device received it.
    Bound(BoundPacketView<Perms>),
    /// As direct bytes.
    Alloced(Perms::Allocated),
    /// With its bytes moved; the answer is still to be sent.
    Transferred(TransferredPacket<Perms>),
}

/// A view in any state and with any permission.
#[allow(missing_debug_implementations)]
#[must_use = "a view that is dropped fails its range"]
pub enum AnyPacket {
    /// Of a write request.
    Read(StandardPktVariations<Read>),
    /// Of a read request.
    Write(StandardPktVariations<Write>),
    /// Of an exchange.
    ReadWrite(StandardPktVariations<ReadWrite>),
}

/// Implements `Splittable` and `Errorable` for an enum by means of its variants.
macro_rules! variants {
    ([$($generics:tt)*] $enum:ident $type:ty: $($variant:ident)*) => {
        impl<$($generics)*> Splittable for $type {
            fn len(&self) -> usize {
                match self { $($enum::$variant(this) => Splittable::len(this),)* }
            }

            fn split_at(self, at: usize) -> (Self, Self) {
                match self {
                    $($enum::$variant(this) => {
                        let (front, back) = this.split_at(at);
                        ($enum::$variant(front), $enum::$variant(back))
                    })*
                }
            }
        }

        impl<$($generics)*> Errorable for $type {
            fn error(self, error: IoError) {
                match self { $($enum::$variant(this) => Errorable::error(this, error),)* }
            }

            fn fail(self, cause: &Cause) {
                match self { $($enum::$variant(this) => Errorable::fail(this, cause),)* }
            }
        }
    };
}

variants!([Perms: PacketPerms] StandardPktVariations StandardPktVariations<Perms>: Bound Alloced Transferred);
variants!([] AnyPacket AnyPacket: Read Write ReadWrite);

impl<Perms: PacketPerms> From<BoundPacketView<Perms>> for StandardPktVariations<Perms> {
    fn from(view: BoundPacketView<Perms>) -> Self {
        Self::Bound(view)
    }
}

impl<Perms: PacketPerms> From<TransferredPacket<Perms>> for StandardPktVariations<Perms> {
    fn from(view: TransferredPacket<Perms>) -> Self {
        Self::Transferred(view)
    }
}

impl<Perms: PacketPerms> From<MaybeAlloced<Perms>> for StandardPktVariations<Perms> {
    fn from(view: MaybeAlloced<Perms>) -> Self {
        match view {
            Ok(view) => Self::Alloced(view),
            Err(view) => Self::Bound(view),
        }
    }
}

impl<Perms: PacketPerms> From<AllocedOrTransferred<Perms>> for StandardPktVariations<Perms> {
    fn from(view: AllocedOrTransferred<Perms>) -> Self {
        match view {
            Ok(view) => Self::Alloced(view),
            Err(view) => Self::Transferred(view),
        }
    }
}

macro_rules! any_from {
    ($($perms:ident: $allocated:ident),*) => {
        $(
            impl From<StandardPktVariations<$perms>> for AnyPacket {
                fn from(view: StandardPktVariations<$perms>) -> Self {
                    Self::$perms(view)
                }
            }

            impl From<BoundPacketView<$perms>> for AnyPacket {
                fn from(view: BoundPacketView<$perms>) -> Self {
                    Self::$perms(view.into())
                }
            }

            impl From<TransferredPacket<$perms>> for AnyPacket {
                fn from(view: TransferredPacket<$perms>) -> Self {
                    Self::$perms(view.into())
                }
            }

            impl From<super::$allocated> for StandardPktVariations<$perms> {
                fn from(view: super::$allocated) -> Self {
                    Self::Alloced(view)
                }
            }

            impl From<super::$allocated> for AnyPacket {
                fn from(view: super::$allocated) -> Self {
                    Self::$perms(view.into())
                }
            }

            impl From<MaybeAlloced<$perms>> for AnyPacket {
                fn from(view: MaybeAlloced<$perms>) -> Self {
                    Self::$perms(view.into())
                }
            }

            impl From<AllocedOrTransferred<$perms>> for AnyPacket {
                fn from(view: AllocedOrTransferred<$perms>) -> Self {
                    Self::$perms(view.into())
                }
            }
        )*
    };
}

any_from!(Read: ReadPacketObj, Write: WritePacketObj, ReadWrite: ReadWritePacketObj);
