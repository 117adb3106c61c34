//! What a device may be asked to do beyond reading and writing: each kind is an extension, and each answer a view.

use crate::device::{Answer, FlushScope, Guarded, Records};
use crate::{
    BackendDevice, BoundPacketView, Code, Entry, Figure, Flush, IoError, Listing, Mapping, Origin,
    Provenance, Region, Resize, Statistics, Write,
};

/// ===== The function of an extension whose answer comes later =====
///
/// Any thread may call; it does not unwind or block. It takes the duty to answer a view of a read request over, whose bytes are the
/// answer; the four arguments at the end are the view. What `number` and the text, which is UTF-8 and borrowed for the call, mean
/// follows from the extension.
#[repr(C)]
#[derive(Debug)]
pub struct OperationTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Does it.
    pub operate: Operate,
}

/// What a device may be asked to do beyond reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// To make what was written last.
    Flush(FlushScope),
    /// To have so many bytes.
    Resize(u64),
    /// To list a folder, from a place on.
    List(&'a str, u64),
    /// To say which positions exist, from one on.
    Map(u64),
    /// To give its figures, from a place on.
    Statistics(u64),
    /// To say where a name comes from, from a place on.
    Provenance(&'a str, u64),
}

impl<'a> Operation<'a> {
    /// One of each kind, in the order of [`kind`](Self::kind).
    pub const ALL: [Operation<'static>; 6] =
        [Self::FLUSH, Self::RESIZE, Self::LIST, Self::MAP, Self::STATISTICS, Self::PROVENANCE];
    /// Stands for the kind, to ask whether a device does it.
    pub const FLUSH: Operation<'static> = Operation::Flush(FlushScope::All);
    /// Stands for the kind.
    pub const RESIZE: Operation<'static> = Operation::Resize(0);
    /// Stands for the kind.
    pub const LIST: Operation<'static> = Operation::List("", 0);
    /// Stands for the kind.
    pub const MAP: Operation<'static> = Operation::Map(0);
    /// Stands for the kind.
    pub const STATISTICS: Operation<'static> = Operation::Statistics(0);
    /// Stands for the kind.
    pub const PROVENANCE: Operation<'static> = Operation::Provenance("", 0);

    /// Its number among [`ALL`](Self::ALL).
    pub const fn kind(&self) -> usize {
        match self {
            Self::Flush(_) => 0,
            Self::Resize(_) => 1,
            Self::List(..) => 2,
            Self::Map(_) => 3,
            Self::Statistics(_) => 4,
            Self::Provenance(..) => 5,
        }
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        ["flush", "resize", "list", "map", "statistics", "provenance"][self.kind()]
    }

    /// The extension's name; its table is an [`OperationTable`].
    pub const fn id(&self) -> &'static str {
        [
            "pactio.flush/1",
            "pactio.resize/1",
            "pactio.list/1",
            "pactio.map/1",
            "pactio.statistics/1",
            "pactio.provenance/1",
        ][self.kind()]
    }

    /// The arguments as they cross the boundary.
    pub(super) fn to_raw(self) -> (u64, &'a str) {
        match self {
            Self::Flush(FlushScope::Data) => (0, ""),
            Self::Flush(FlushScope::All) => (1, ""),
            Self::Flush(FlushScope::Visible) => (2, ""),
            Self::Resize(size) => (size, ""),
            Self::List(text, from) | Self::Provenance(text, from) => (from, text),
            Self::Map(from) | Self::Statistics(from) => (from, ""),
        }
    }

    fn from_raw(kind: usize, number: u64, text: &'a str) -> Self {
        match kind {
            0 if number == 0 => Self::Flush(FlushScope::Data),
            0 if number == 2 => Self::Flush(FlushScope::Visible),
            0 => Self::Flush(FlushScope::All),
            1 => Self::Resize(number),
            2 => Self::List(text, number),
            3 => Self::Map(number),
            4 => Self::Statistics(number),
            _ => Self::Provenance(text, number),
        }
    }
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

/// Something of the other side that does [operations](Operation). So it is every extension of a device that has an answer.
pub trait Operates: Send + Sync {
    /// Does it; the bytes of the view are the answer.
    fn operate(&self, operation: Operation<'_>, view: BoundPacketView<Write>);
}

impl<T: Operates> Flush for T {
    fn flush(&self, scope: FlushScope, answer: Answer) {
        self.operate(Operation::Flush(scope), answer.into_view());
    }
}

impl<T: Operates> Resize for T {
    fn resize(&self, size: u64, answer: Answer) {
        self.operate(Operation::Resize(size), answer.into_view());
    }
}

impl<T: Operates> Listing for T {
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>) {
        self.operate(Operation::List(folder, from), entries.into_view());
    }
}

impl<T: Operates> Mapping for T {
    fn map(&self, from: u64, regions: Records<Region>) {
        self.operate(Operation::Map(from), regions.into_view());
    }
}

impl<T: Operates> Statistics for T {
    fn statistics(&self, from: u64, figures: Records<Figure>) {
        self.operate(Operation::Statistics(from), figures.into_view());
    }
}

impl<T: Operates> Provenance for T {
    fn provenance(&self, name: &str, from: u64, origins: Records<Origin>) {
        self.operate(Operation::Provenance(name, from), origins.into_view());
    }
}

struct TablesOf<D>(D);

impl<D: BackendDevice> TablesOf<D> {
    const OPERATIONS: [OperationTable; Operation::ALL.len()] = [
        operation(operate::<D, 0>),
        operation(operate::<D, 1>),
        operation(operate::<D, 2>),
        operation(operate::<D, 3>),
        operation(operate::<D, 4>),
        operation(operate::<D, 5>),
    ];
}

const fn operation(operate: Operate) -> OperationTable {
    OperationTable { size: size_of::<OperationTable>() as u32, operate }
}

/// The table of a kind of operation.
pub(super) fn table<D: BackendDevice>(operation: &Operation<'_>) -> &'static OperationTable {
    let tables: &'static [OperationTable; Operation::ALL.len()] = &TablesOf::<D>::OPERATIONS;
    &tables[operation.kind()]
}

#[allow(clippy::too_many_arguments, reason = "a view crosses in parts")]
unsafe extern "C" fn operate<D: BackendDevice, const KIND: usize>(
    object: *const (),
    number: u64,
    text: *const u8,
    text_len: usize,
    packet: *const (),
    start: usize,
    end: usize,
    tag: u64,
) {
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists; the text is borrowed for the call; the parts are those of a view, given once.
    let (device, text, view) = unsafe {
        (
            &*object.cast::<Guarded<D>>(),
            core::slice::from_raw_parts(text, text_len),
            BoundPacketView::from_parts(packet, start, end, tag),
        )
    };
    match core::str::from_utf8(text) {
        Ok(text) => device.operate(Operation::from_raw(KIND, number, text), view),
        Err(_) => view.error(IoError::from_code(Code::INVALID_INPUT)),
    }
}
