//! Outputs: the receivers of the segments of a request, beside its result.
//!
//! A **segment** is a part of a request that came back: done, or failed with an error. An output receives each segment as soon as
//! the segment is answered, on the thread that answers it, before the request can be complete (rule P3). Parts without bytes are
//! no segments.

use alloc::sync::Arc;
use core::fmt;
use core::ops::{Deref, Range};
use core::ptr::NonNull;

use super::block::text_of;
use crate::{IoError, firewall};

/// Receives the segments of requests.
///
/// Any thread may call an output, and several threads at once; so an output is shared, `Send`, `Sync`, and owns the values that
/// it uses (rules 1 and 18). An output that borrows or stays on one thread does not compile:
///
/// ```compile_fail,E0277
/// # use pactio_sdk::{OutputFunction, OutputRef};
/// # use std::{cell::RefCell, rc::Rc};
/// let segments = Rc::new(RefCell::new(Vec::new()));
/// let output = OutputRef::new(OutputFunction(move |segment: pactio_sdk::Segment<'_>| {
///     segments.borrow_mut().push(segment.range());
/// }));
/// ```
///
/// ```compile_fail,E0373
/// # use pactio_sdk::{OutputFunction, OutputRef};
/// # fn output() -> OutputRef {
/// let total = std::sync::Mutex::new(0);
/// OutputRef::new(OutputFunction(|segment: pactio_sdk::Segment<'_>| {
///     *total.lock().unwrap() += segment.range().len();
/// }))
/// # }
/// ```
pub trait PacketOutput: Send + Sync + 'static {
    /// A segment came back. The function must not block; a panic is caught and changes nothing.
    fn segment(&self, segment: Segment<'_>);
}

/// One part of a request that came back.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    raw: RawSegment,
    bytes: Option<&'a [u8]>,
    text: Option<&'a str>,
}

impl<'a> Segment<'a> {
    /// The range of the segment in its request, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.raw.start..self.raw.end
    }

    /// The tag of the view that was answered.
    pub fn tag(&self) -> u64 {
        self.raw.tag
    }

    /// Whether the segment was done.
    ///
    /// # Errors
    ///
    /// The error of a segment that failed.
    pub fn result(&self) -> Result<(), IoError> {
        IoError::from_raw(self.raw.error).map_or(Ok(()), Err)
    }

    /// The text of the failure, if the segment failed and there is one: see [`Cause`](crate::Cause).
    pub fn text(&self) -> Option<&'a str> {
        self.text
    }

    /// The bytes, if the segment was done and its packet has bytes: those that were read, or those that were written.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        self.bytes
    }
}

impl fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("range", &self.range())
            .field("tag", &self.tag())
            .field("result", &self.result())
            .finish()
    }
}

/// A closure as an output.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use pactio_sdk::{IoError, OutputFunction, OutputRef, PacketBox, Write};
///
/// let done = Arc::new(AtomicUsize::new(0));
/// let counter = done.clone();
/// let output = OutputRef::new(OutputFunction(move |segment: pactio_sdk::Segment<'_>| {
///     if segment.result().is_ok() {
///         counter.fetch_add(segment.range().len(), Ordering::Relaxed);
///     }
/// }));
/// let mut packet = PacketBox::<Write>::new_buf(10)?;
/// let (front, back) = packet.bind_to(output)?.split_at(4);
/// front.transfer_data(b"four").complete();
/// back.error(IoError::END);
/// assert_eq!(done.load(Ordering::Relaxed), 4);
/// # Ok::<(), IoError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OutputFunction<F>(pub F);

impl<F: Fn(Segment<'_>) + Send + Sync + 'static> PacketOutput for OutputFunction<F> {
    fn segment(&self, segment: Segment<'_>) {
        (self.0)(segment);
    }
}

/// An output on the heap that its maker continues to use: [`output`](Self::output) gives a counted handle for each request.
#[derive(Debug)]
pub struct OutputStore<O>(Arc<O>);

impl<O: PacketOutput> OutputStore<O> {
    /// Places an output.
    pub fn new(output: O) -> Self {
        Self(Arc::new(output))
    }

    /// A handle to be given to a request.
    pub fn output(&self) -> OutputRef {
        OutputRef::from(self.0.clone())
    }
}

impl<O> Deref for OutputStore<O> {
    type Target = O;

    fn deref(&self) -> &O {
        &self.0
    }
}

impl<O> Clone for OutputStore<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A counted handle of an output behind a table of C functions.
#[repr(C)]
pub struct OutputRef {
    object: NonNull<()>,
    table: &'static OutputTable,
}

/// ===== The functions of an output =====
///
/// Any thread may call the functions; none unwinds. Each count that `clone` adds is taken away by one `drop`.
#[repr(C)]
struct OutputTable {
    /// Size of this table in bytes; it grows at the end.
    size: u32,
    segment: unsafe extern "C" fn(object: NonNull<()>, segment: &RawSegment),
    clone: unsafe extern "C" fn(object: NonNull<()>),
    drop: unsafe extern "C" fn(object: NonNull<()>),
}

/// A segment as it crosses the boundary.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawSegment {
    /// The bytes of the range if the segment was done and the packet has bytes; valid for the call.
    pub(super) bytes: *const u8,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tag: u64,
    /// 0 if the segment was done.
    pub(super) error: u32,
    /// The text of the failure, or nothing; valid for the call.
    pub(super) text: *const u8,
    pub(super) text_len: usize,
}

// SAFETY: the value is a counted handle of a `PacketOutput`, which is `Send` and `Sync`.
unsafe impl Send for OutputRef {}
// SAFETY: the value is a counted handle of a `PacketOutput`, which is `Send` and `Sync`.
unsafe impl Sync for OutputRef {}

struct TableOf<O>(O);

impl<O: PacketOutput> TableOf<O> {
    const TABLE: OutputTable = OutputTable {
        size: size_of::<OutputTable>() as u32,
        segment: segment::<O>,
        clone: clone::<O>,
        drop: drop_output::<O>,
    };
}

/// Gives a segment to the output behind `object`; a panic of the output is caught and changes nothing.
unsafe extern "C" fn segment<O: PacketOutput>(object: NonNull<()>, raw: &RawSegment) {
    // SAFETY: the caller holds a count of the object, which is an `Arc<O>`; bytes and text are valid for the call.
    let (output, bytes, text) = unsafe {
        let bytes =
            (!raw.bytes.is_null()).then(|| core::slice::from_raw_parts(raw.bytes, raw.end - raw.start));
        (object.cast::<O>().as_ref(), bytes, text_of(raw.text, raw.text_len))
    };
    let _ = firewall::contain(|| output.segment(Segment { raw: *raw, bytes, text }));
}

unsafe extern "C" fn clone<O>(object: NonNull<()>) {
    // SAFETY: the caller holds a count of the object, which is an `Arc<O>`.
    unsafe { Arc::increment_strong_count(object.as_ptr().cast::<O>()) };
}

unsafe extern "C" fn drop_output<O>(object: NonNull<()>) {
    // SAFETY: the caller holds a count of the object, which is an `Arc<O>`; the count is consumed.
    let output = unsafe { Arc::from_raw(object.as_ptr().cast::<O>()) };
    let _ = firewall::contain(|| drop(output));
}

impl OutputRef {
    /// The only handle of an output.
    pub fn new(output: impl PacketOutput) -> Self {
        Self::from(Arc::new(output))
    }

    pub(super) fn tell(&self, segment: &RawSegment) {
        // SAFETY: `self` holds a count.
        unsafe { (self.table.segment)(self.object, segment) };
    }
}

impl<O: PacketOutput> From<Arc<O>> for OutputRef {
    fn from(output: Arc<O>) -> Self {
        // SAFETY: a pointer from an `Arc` is not null.
        let object = unsafe { NonNull::new_unchecked(Arc::into_raw(output).cast_mut()) };
        Self { object: object.cast(), table: &TableOf::<O>::TABLE }
    }
}

impl Clone for OutputRef {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a count; the new handle gets the one that is added.
        unsafe { (self.table.clone)(self.object) };
        Self { object: self.object, table: self.table }
    }
}

impl Drop for OutputRef {
    fn drop(&mut self) {
        // SAFETY: the count of `self` is consumed, and `self` ends.
        unsafe { (self.table.drop)(self.object) };
    }
}

impl fmt::Debug for OutputRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutputRef").field(&self.object).finish()
    }
}
