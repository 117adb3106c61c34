//! The path of records and spans from a plugin to its host.

use cglue::slice::CSliceRef;

/// ===== The table that a host gives to each plugin that it loads =====
///
/// The table lives as long as the process. Any thread may call its functions; no function unwinds, and all text is UTF-8 and
/// borrowed for the call.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// The first argument of all functions.
    pub object: *const (),
    /// 1 if records of this level are wanted: 1 (error) to 5 (trace).
    pub enabled: unsafe extern "C" fn(object: *const (), level: u32) -> u32,
    /// Reports a record, within the spans that this thread has entered.
    pub event: unsafe extern "C" fn(object: *const (), record: &RawRecord<'_>),
    /// Begins a span and returns its number, which is not 0. `parent` is 0 for the span that this thread is in, and `u64::MAX`
    /// for none.
    pub new_span: unsafe extern "C" fn(object: *const (), record: &RawRecord<'_>, parent: u64) -> u64,
    /// This thread enters a span.
    pub enter: unsafe extern "C" fn(object: *const (), span: u64),
    /// This thread leaves a span.
    pub exit: unsafe extern "C" fn(object: *const (), span: u64),
    /// Adds a handle of a span.
    pub clone_span: unsafe extern "C" fn(object: *const (), span: u64),
    /// Removes a handle of a span; 1 if that was the last handle, and the number is not used any more.
    pub close: unsafe extern "C" fn(object: *const (), span: u64) -> u32,
}

// SAFETY: the functions of the table may be called on any thread, and the table is never changed.
unsafe impl Send for HostTable {}
// SAFETY: the functions of the table may be called on any thread, and the table is never changed.
unsafe impl Sync for HostTable {}

/// A record, or a span.
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawRecord<'a> {
    /// 1 (error) to 5 (trace).
    pub level: u32,
    /// Line in the file, or 0.
    pub line: u32,
    /// The origin: mostly the path of a module.
    pub target: CSliceRef<'a, u8>,
    /// The file, or nothing.
    pub file: CSliceRef<'a, u8>,
    /// The message; of a span, its name.
    pub message: CSliceRef<'a, u8>,
    /// The other fields as text: `name=value name=value`.
    pub fields: CSliceRef<'a, u8>,
}

/// Takes the table of the host: the last function that a plugin exports in its entry.
pub type Attach = unsafe extern "C" fn(host: &'static HostTable);

/// Adds records to the ABI's fingerprint.
pub(super) const fn describe_boundary(
    print: crate::fingerprint::Fingerprint,
) -> crate::fingerprint::Fingerprint {
    crate::fingerprint::fingerprint_struct!(
        print, RawRecord<'static>, "RawRecord" { level, line, target, file, message, fields }
    )
    .text("HostTable: size, object, enabled(object, u32) -> u32, event(object, &RawRecord), new_span(object, &RawRecord, u64) -> u64, enter(object, u64), exit(object, u64), clone_span(object, u64), close(object, u64) -> u32")
}
