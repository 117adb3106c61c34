//! How records and spans of a plugin get to its host.

use cglue::slice::CSliceRef;

/// ===== What a host gives to each plugin that it loads =====
///
/// It lives as long as the process. Any thread may call; no function unwinds, and all text is UTF-8 and borrowed for the call.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// The first argument of all functions.
    pub object: *const (),
    /// 1 if somebody wants records of this level: 1 (error) to 5 (trace).
    pub enabled: unsafe extern "C" fn(object: *const (), level: u32) -> u32,
    /// Something happened, within the spans that this thread has entered.
    pub event: unsafe extern "C" fn(object: *const (), record: &RawRecord<'_>),
    /// A span begins; its number is not 0. `parent` is 0 for the one that this thread is in, and
    /// `u64::MAX` for none.
    pub new_span: unsafe extern "C" fn(object: *const (), record: &RawRecord<'_>, parent: u64) -> u64,
    /// This thread is in a span from now on.
    pub enter: unsafe extern "C" fn(object: *const (), span: u64),
    /// This thread has left it.
    pub exit: unsafe extern "C" fn(object: *const (), span: u64),
    /// There is one more handle of it.
    pub clone_span: unsafe extern "C" fn(object: *const (), span: u64),
    /// There is one handle less; 1 if that was the last, and its number is used no more.
    pub close: unsafe extern "C" fn(object: *const (), span: u64) -> u32,
}

// SAFETY: its functions may be called on any thread, and it is never changed.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

/// A record, or a span.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawRecord<'a> {
    /// 1 (error) to 5 (trace).
    pub level: u32,
    /// Line in the file, or 0.
    pub line: u32,
    /// Where it comes from: mostly the path of a module.
    pub target: CSliceRef<'a, u8>,
    /// The file, or nothing.
    pub file: CSliceRef<'a, u8>,
    /// The message; of a span, its name.
    pub message: CSliceRef<'a, u8>,
    /// The other fields as text: `name=value name=value`.
    pub fields: CSliceRef<'a, u8>,
}

/// Takes what the host gives: the last function that a plugin exports in its entry.
pub type Attach = unsafe extern "C" fn(host: &'static HostTable);

/// What the ABI's fingerprint says of records.
pub(super) const fn describe_boundary(print: super::Fingerprint) -> super::Fingerprint {
    super::fingerprint_struct!(
        print, RawRecord<'static>, "RawRecord" { level, line, target, file, message, fields }
    )
    .text("HostTable: size, object, enabled(object, u32) -> u32, event(object, &RawRecord), new_span(object, &RawRecord, u64) -> u64, enter(object, u64), exit(object, u64), clone_span(object, u64), close(object, u64) -> u32")
}
