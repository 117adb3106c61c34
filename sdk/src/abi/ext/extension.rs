//! The common parts of all extensions: a name, a place in the list, and a table of C functions that crosses the boundary.

use core::fmt;

use super::Listed;
use crate::{BoundPacketView, Write};

/// A word for one thing that a device can do: an extension, or one of the methods that move bytes.
///
/// [`Filter::FORWARDS`](crate::Filter::FORWARDS) is a list of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability {
    id: &'static str,
    name: &'static str,
    stored: bool,
}

impl Capability {
    /// [`BackendDevice::read`](crate::BackendDevice::read) and its batches.
    pub const READ: Self = Self { id: "read", name: "read", stored: true };
    /// [`BackendDevice::write`](crate::BackendDevice::write) and its batches.
    pub const WRITE: Self = Self { id: "write", name: "write", stored: true };
    /// [`BackendDevice::exchange`](crate::BackendDevice::exchange).
    pub const EXCHANGE: Self = Self { id: "exchange", name: "exchange", stored: true };
    /// [`BackendDevice::read_next`](crate::BackendDevice::read_next).
    pub const READ_NEXT: Self = Self { id: "read-next", name: "read a stream", stored: true };
    /// [`BackendDevice::write_next`](crate::BackendDevice::write_next).
    pub const WRITE_NEXT: Self = Self { id: "write-next", name: "write a stream", stored: true };

    /// An extension that concerns the stored bytes or names: a filter has it only if the device below has it too.
    pub(super) const fn of_storage(id: &'static str, name: &'static str) -> Self {
        Self { id, name, stored: true }
    }

    /// An extension that concerns how requests are handled: a filter may have it even if the device below does not.
    pub(super) const fn of_handling(id: &'static str, name: &'static str) -> Self {
        Self { id, name, stored: false }
    }

    /// The id as it crosses the boundary, with the version of the table.
    pub const fn id(&self) -> &'static str {
        self.id
    }

    /// The name for people.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A filter has the capability only if the device below has it too.
    #[cfg(feature = "plugin")]
    pub(crate) const fn needs_lower(&self) -> bool {
        self.stored
    }

    /// The capability is in the list.
    #[cfg(feature = "plugin")]
    pub(crate) const fn is_in(&self, list: &[Self]) -> bool {
        let mut index = 0;
        while index < list.len() {
            if same(self.id.as_bytes(), list[index].id.as_bytes()) {
                return true;
            }
            index += 1;
        }
        false
    }
}

/// Whether the bytes are equal. A constant function cannot compare slices with `==`.
#[cfg(feature = "plugin")]
const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// An extension of devices, implemented for the trait object of its trait, such as `dyn Flush`. All of them are in this crate.
pub trait Extension: Listed + 'static {
    /// Its id and name.
    const CAPABILITY: Capability;

    /// Its functions as they cross the boundary. The table begins with its size and grows at the end.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    type Table: 'static;

    /// The functions for a device of this library that has the extension; their first argument is the device's `Guarded`.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    fn table<D: crate::BackendDevice>() -> &'static Self::Table;

    /// The extension of a device of the other side.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    fn of_remote(remote: &RemoteExtension<Self>) -> &Self;

    /// Performs the operation, if it is an [`Operation`]; else fails the view.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    fn operate_any(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        let _ = (number, text);
        view.error(crate::IoError::UNSUPPORTED);
    }

    /// The extension of a relay, if it is an [`Operation`].
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    fn of_relay<T: Relay>(relay: &T) -> Option<&Self> {
        let _ = relay;
        None
    }
}

/// An extension with one method that may be answered later. A call crosses the boundary as a view of a read request; the bytes of
/// the request are the answer.
pub trait Operation: Listed + 'static {
    /// Its id and name.
    const OPERATION: Capability;

    /// Performs the operation. The meaning of the number and the text follows from the extension.
    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>);

    /// The extension as implemented by `operates`.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self;
}

/// Performs the operation of the extension `E`, on a device of the other side, or by handing it on.
#[cfg(feature = "plugin")]
pub trait Operates<E: ?Sized>: Send + Sync {
    /// See [`Operation::operate`].
    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>);
}

/// Hands each [`Operation`] on in the same way, for a device of the host that stands for another device.
#[cfg(feature = "plugin")]
pub trait Relay: Send + Sync + 'static {
    /// Hands the operation on.
    fn relay<E: Operation + ?Sized>(&self, number: u64, text: &[u8], view: BoundPacketView<Write>);
}

#[cfg(feature = "plugin")]
impl<T: Relay, E: Operation + ?Sized> Operates<E> for T {
    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.relay::<E>(number, text, view);
    }
}

impl<E: Operation + ?Sized> Extension for E {
    const CAPABILITY: Capability = E::OPERATION;

    #[cfg(feature = "plugin")]
    type Table = OperationTable;

    #[cfg(feature = "plugin")]
    fn table<D: crate::BackendDevice>() -> &'static OperationTable {
        crossing::operation_table::<D, E>()
    }

    #[cfg(feature = "plugin")]
    fn of_remote(remote: &RemoteExtension<Self>) -> &Self {
        E::of(remote)
    }

    #[cfg(feature = "plugin")]
    fn operate_any(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.operate(number, text, view);
    }

    #[cfg(feature = "plugin")]
    fn of_relay<T: Relay>(relay: &T) -> Option<&Self> {
        Some(E::of(relay))
    }
}

#[cfg(feature = "plugin")]
pub use crossing::{CallExtension, OperationTable, RawExtension, RemoteExtension};
#[cfg(feature = "plugin")]
pub(crate) use crossing::{extension, guarded, of_size};

#[cfg(feature = "plugin")]
mod crossing {
    use core::marker::PhantomData;
    use core::{fmt, ptr, slice};

    use super::super::{Listed, ask_by_id};
    use super::{Extension, Operates, Operation};
    use crate::abi::Guarded;
    use crate::{BackendDevice, BoundPacketView, Write};

    /// An extension that was looked up over the boundary, or two null pointers. It is valid while its device exists.
    #[repr(C)]
    #[derive(Clone, Copy, Debug)]
    #[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
    pub struct RawExtension {
        /// The first argument of all functions of the table.
        #[cfg_attr(feature = "layout-check", sabi(unsafe_opaque_field))]
        pub object: *const (),
        /// The table; its type follows from the id.
        #[cfg_attr(feature = "layout-check", sabi(unsafe_opaque_field))]
        pub table: *const (),
    }

    // SAFETY: the fields are the addresses of a table that never changes and of a device, which is `Send` and `Sync`.
    unsafe impl Send for RawExtension {}
    // SAFETY: the fields are the addresses of a table that never changes and of a device, which is `Send` and `Sync`.
    unsafe impl Sync for RawExtension {}

    impl RawExtension {
        const NONE: Self = Self { object: ptr::null(), table: ptr::null() };
    }

    /// The extension `E` of a device of the other side.
    #[repr(transparent)]
    pub struct RemoteExtension<E: ?Sized> {
        raw: RawExtension,
        _extension: PhantomData<fn(&E)>,
    }

    impl<E: Extension + ?Sized> RemoteExtension<E> {
        /// The extension that was found, if its table is not null and has all functions that this version knows.
        ///
        /// # Safety
        ///
        /// `raw` was found under the id of `E`, and its device exists for the life of the reference.
        pub(crate) unsafe fn new(raw: &RawExtension) -> Option<&Self> {
            if raw.table.is_null() {
                return None;
            }
            // SAFETY: each table begins with its size. A library stays loaded, so its tables are static.
            let size = unsafe { *raw.table.cast::<u32>() } as usize;
            // SAFETY: the struct is transparent over `raw`.
            (size >= size_of::<E::Table>()).then(|| unsafe { &*ptr::from_ref(raw).cast::<Self>() })
        }

        /// The first argument of its functions, and their table.
        pub(crate) fn parts(&self) -> (*const (), &'static E::Table) {
            // SAFETY: `new` has found the table of `E`, in full; a library stays loaded.
            (self.raw.object, unsafe { &*self.raw.table.cast::<E::Table>() })
        }
    }

    impl<E: Listed + ?Sized> fmt::Debug for RemoteExtension<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.raw.fmt(f)
        }
    }

    /// The size of a table, which is its first field.
    pub(crate) const fn of_size<T>() -> u32 {
        size_of::<T>() as u32
    }

    /// The device behind the first argument of a table's functions.
    ///
    /// # Safety
    ///
    /// `object` is the argument that belongs to a table for `D`, and the device exists for `'a`.
    pub(crate) unsafe fn guarded<'a, D: BackendDevice>(object: *const ()) -> &'a Guarded<D> {
        // SAFETY: `object` belongs to a table for `D`, so `extension` made it from a `Guarded<D>`, which exists for `'a`.
        unsafe { &*object.cast::<Guarded<D>>() }
    }

    /// Looks up an extension of a device of this library, for the other side.
    pub(crate) fn extension<D: BackendDevice>(device: &Guarded<D>, id: &[u8]) -> RawExtension {
        ask_by_id(id, Found(device)).unwrap_or(RawExtension::NONE)
    }

    /// A call with an extension that is found by its id or its place.
    pub trait CallExtension {
        /// The result of the call.
        type Output;

        /// Is called with the extension, which is `E`.
        fn call<E: Extension + ?Sized>(self) -> Self::Output;
    }

    struct Found<'a, D: BackendDevice>(&'a Guarded<D>);

    impl<D: BackendDevice> CallExtension for Found<'_, D> {
        type Output = RawExtension;

        fn call<E: Extension + ?Sized>(self) -> RawExtension {
            if !self.0.has::<E>() {
                return RawExtension::NONE;
            }
            RawExtension {
                object: ptr::from_ref(self.0).cast(),
                table: ptr::from_ref(E::table::<D>()).cast(),
            }
        }
    }

    /// ===== The function of an [`Operation`] =====
    ///
    /// Any thread may call; the function does not unwind or block. It takes over the duty to answer a view of a read request; the
    /// bytes of the request are the answer. The four arguments at the end are the view. The text is borrowed for the call.
    #[repr(C)]
    #[derive(Debug)]
    pub struct OperationTable {
        /// Size of this table in bytes; it grows at the end.
        pub size: u32,
        /// Performs the operation.
        pub operate: Operate,
    }

    /// The function of an [`OperationTable`].
    pub type Operate = unsafe extern "C" fn(
        object: *const (),
        number: u64,
        text: *const u8,
        text_len: usize,
        packet: *const (),
        start: usize,
        end: usize,
        tag: u64,
    );

    struct TableOf<D, E: ?Sized>(D, PhantomData<E>);

    impl<D: BackendDevice, E: Operation + ?Sized> TableOf<D, E> {
        const TABLE: OperationTable =
            OperationTable { size: of_size::<OperationTable>(), operate: operate::<D, E> };
    }

    pub(super) fn operation_table<D: BackendDevice, E: Operation + ?Sized>() -> &'static OperationTable {
        &TableOf::<D, E>::TABLE
    }

    #[allow(clippy::too_many_arguments, reason = "a view crosses in parts")]
    unsafe extern "C" fn operate<D: BackendDevice, E: Operation + ?Sized>(
        object: *const (),
        number: u64,
        text: *const u8,
        text_len: usize,
        packet: *const (),
        start: usize,
        end: usize,
        tag: u64,
    ) {
        // SAFETY: the object belongs to the table; the text is borrowed for the call; the arguments are the parts of one view,
        // passed once.
        unsafe {
            let text = if text_len == 0 { &[] } else { slice::from_raw_parts(text, text_len) };
            let view = BoundPacketView::from_parts(packet, start, end, tag);
            guarded::<D>(object).operate::<E>(number, text, view);
        }
    }

    impl<E: Operation + ?Sized> Operates<E> for RemoteExtension<E> {
        fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
            let (object, table) = self.parts();
            let (packet, start, end, tag) = view.into_parts();
            // SAFETY: the device exists, since `self` does; the arguments are the parts of a view that `into_parts` has consumed.
            unsafe { (table.operate)(object, number, text.as_ptr(), text.len(), packet, start, end, tag) };
        }
    }
}
