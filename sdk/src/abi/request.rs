//! The request to open a device, and its refusal.

use cglue::slice::CSliceRef;

use crate::IoError;

/// The device to open. All text is UTF-8 and borrowed for the call.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawOpenRequest<'a> {
    /// The scheme of the URL.
    pub scheme: CSliceRef<'a, u8>,
    /// The text behind the scheme, up to the options.
    pub target: CSliceRef<'a, u8>,
    /// The options, in the order of the URL.
    pub options: CSliceRef<'a, RawOption<'a>>,
    /// Bits of [`OpenMode`](crate::OpenMode).
    pub mode: u32,
}

/// One option of a URL.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawOption<'a> {
    /// Its name.
    pub key: CSliceRef<'a, u8>,
    /// Its value.
    pub value: CSliceRef<'a, u8>,
}

/// Why a device was not opened.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct OpenFailure {
    /// The kind of failure.
    pub error: IoError,
    /// The message for the user.
    pub message: OwnedText,
}

/// Text that is freed by the side that made it.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct OwnedText {
    data: *mut u8,
    len: usize,
    capacity: usize,
    free: unsafe extern "C" fn(*mut u8, usize, usize),
}

// SAFETY: `OwnedText` owns plain bytes; `free` may be called on any thread.
unsafe impl Send for OwnedText {}
// SAFETY: `&OwnedText` only reads.
unsafe impl Sync for OwnedText {}

unsafe extern "C" fn free_text(data: *mut u8, len: usize, capacity: usize) {
    // SAFETY: the three parts come from a `String` of this library.
    drop(unsafe { Vec::from_raw_parts(data, len, capacity) });
}

impl From<String> for OwnedText {
    fn from(text: String) -> Self {
        let mut bytes = core::mem::ManuallyDrop::new(text.into_bytes());
        Self { data: bytes.as_mut_ptr(), len: bytes.len(), capacity: bytes.capacity(), free: free_text }
    }
}

impl OwnedText {
    /// The text; bytes that are not UTF-8 are replaced.
    pub fn to_text(&self) -> String {
        // SAFETY: the parts describe bytes that `self` owns.
        String::from_utf8_lossy(unsafe { core::slice::from_raw_parts(self.data, self.len) }).into_owned()
    }
}

impl Drop for OwnedText {
    fn drop(&mut self) {
        // SAFETY: the arguments are the parts that the maker gave, passed back once.
        unsafe { (self.free)(self.data, self.len, self.capacity) };
    }
}

impl core::fmt::Debug for OwnedText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_text().fmt(f)
    }
}

/// Adds opening to the ABI's fingerprint.
pub(super) const fn describe_boundary(
    print: crate::fingerprint::Fingerprint,
) -> crate::fingerprint::Fingerprint {
    let print = crate::fingerprint::fingerprint_struct!(
        print, RawOpenRequest<'static>, "RawOpenRequest" { scheme, target, options, mode }
    );
    let print =
        crate::fingerprint::fingerprint_struct!(print, RawOption<'static>, "RawOption" { key, value });
    let print = crate::fingerprint::fingerprint_struct!(print, OpenFailure, "OpenFailure" { error, message });
    crate::fingerprint::fingerprint_struct!(print, OwnedText, "OwnedText" { data, len, capacity, free })
        .text("free: unsafe extern C fn(*mut u8, usize, usize)")
}
