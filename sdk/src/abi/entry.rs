//! The one symbol that a plugin exports.

use core::mem::MaybeUninit;

#[cfg(feature = "layout-check")]
use abi_stable::{StableAbi, type_layout::TypeLayout};

use super::{Attach, BackendObj, Library};
use crate::fingerprint::Fingerprint;

/// Name of the exported static, a [`PluginEntry`].
pub const ENTRY_SYMBOL: &str = "PACTIO_PLUGIN";

/// The first eight bytes of every entry.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pactio\0\x01");

/// Incremented on incompatible changes: older plugins no longer work.
pub const ABI_MAJOR: u16 = 1;

/// Incremented on additions.
pub const ABI_MINOR: u16 = 0;

/// The minor version that a plugin needs that is built with this crate. A plugin works with hosts of this minor version and later
/// ones; additions are used only where the host has them.
pub const ABI_NEEDED_MINOR: u16 = 0;

/// A number over names, sizes and signatures of the boundary, which stay the same within a major version. It does not cover
/// additions: functions at the end of a table, fields at the end of a struct with a size, extensions.
pub const FINGERPRINT: u64 = {
    let print = Fingerprint::new();
    let print = crate::packet::describe_boundary(print);
    let print = super::waker::describe_boundary(print);
    let print = super::request::describe_boundary(print);
    let print = super::log::describe_boundary(print);
    let print = super::object::describe_boundary(print);
    print.finish()
};

/// The static that a plugin exports as [`ENTRY_SYMBOL`].
///
/// A host reads the entry from the front, and uses the later fields only after the host has checked the magic number, the size,
/// the version and the fingerprint.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PluginEntry {
    /// [`MAGIC`].
    pub magic: u64,
    /// Size of this struct in bytes in the plugin's version; the struct grows at the end. A host reads up to the smaller size.
    pub size: u32,
    /// [`ABI_MAJOR`].
    pub abi_major: u16,
    /// [`ABI_MINOR`].
    pub abi_minor: u16,
    /// [`FINGERPRINT`].
    pub fingerprint: u64,
    /// Layout of [`BackendObj`] and all it refers to, if the plugin was built with the feature `layout-check`.
    pub layout: Layout,
    /// The manifest: the same bytes as in its section.
    pub manifest: StaticBytes,
    /// Makes the backend. `None` is refused.
    pub create: Option<CreateBackend>,
    /// Takes the table that the host gives to each plugin, before the backend is made; or nothing.
    pub attach: Option<Attach>,
}

/// Makes the backend at `out` and returns 0, or returns the raw [`IoError`](crate::IoError) and leaves `out` as it is.
///
/// # Safety
///
/// `out` must be valid for a write.
pub type CreateBackend = unsafe extern "C" fn(library: Library, out: *mut MaybeUninit<BackendObj>) -> u32;

/// Bytes of a library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StaticBytes {
    data: *const u8,
    len: usize,
}

// SAFETY: the entry is made of constants and function pointers and never written.
unsafe impl Sync for PluginEntry {}
// SAFETY: the entry is made of constants and function pointers and never written.
unsafe impl Send for PluginEntry {}

impl StaticBytes {
    /// Bytes of this library.
    pub const fn new(bytes: &'static [u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The bytes were given to [`new`](Self::new) in a library that is loaded for the life of the process.
    pub unsafe fn as_slice(&self) -> &'static [u8] {
        // SAFETY: the caller promises that the bytes came from `new` in a library that is loaded for the life of the process.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }
}

/// Layout of everything that a host reaches from a [`BackendObj`], as `abi_stable` describes it; or nothing, if the library was
/// built without the feature `layout-check`. The [fingerprint](FINGERPRINT) is compared in any case.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Layout(*const ());

impl Layout {
    /// The layout of this library.
    pub const fn of_backend() -> Self {
        #[cfg(feature = "layout-check")]
        let layout = core::ptr::from_ref::<TypeLayout>(<BackendObj as StableAbi>::LAYOUT).cast();
        #[cfg(not(feature = "layout-check"))]
        let layout = core::ptr::null();
        Self(layout)
    }

    /// An arbitrary layout, for tests with a false layout.
    #[doc(hidden)]
    #[cfg(feature = "layout-check")]
    pub const fn other(layout: &'static TypeLayout) -> Self {
        Self(core::ptr::from_ref(layout).cast())
    }

    /// The description, if there is one.
    ///
    /// # Safety
    ///
    /// The layout was made by [`of_backend`](Self::of_backend), by a library with the same fingerprint that is loaded for the
    /// life of the process.
    #[cfg(feature = "layout-check")]
    pub unsafe fn describe(self) -> Option<&'static TypeLayout> {
        // SAFETY: the pointer is null or came from a static reference of a library that stays loaded.
        unsafe { self.0.cast::<TypeLayout>().as_ref() }
    }
}
