//! What the host does to a request before the plugin gets it.
//!
//! ```text
//!  request ──► counts, if the host keeps statistics ──► limits, if the device has any ──► the plugin
//! ```

use pactio_sdk::abi::{DeviceParam, DeviceRequest};
use pactio_sdk::{
    AlignedBytes, BoundPacketView, Code, Counts, DerivedPacket, IoError, Limits, NoPos, Read, ReadWrite,
    RequestKind, Write,
};

/// The layers of a device that has limits, or whose requests are counted.
pub(super) struct Layers {
    counts: Option<Counts>,
    limits: Limits,
}

impl Layers {
    /// `None` if the requests of the device pass through unchanged.
    pub(super) fn new(limits: Limits, counts: Option<Counts>) -> Option<Self> {
        (counts.is_some() || !limits.takes_all()).then_some(Self { counts, limits })
    }

    /// The counts, if the requests are counted.
    pub(super) fn counts(&self) -> Option<&Counts> {
        self.counts.as_ref()
    }

    /// Passes a request through the layers; `send` gets the requests that the plugin takes, which may be several.
    pub(super) fn pass<Perms: LayeredRequest<P>, P: DeviceParam>(
        &self,
        param: P,
        view: BoundPacketView<Perms>,
        mut send: impl FnMut(P, BoundPacketView<Perms>),
    ) {
        match &self.counts {
            None => Perms::fit(self.limits, param, view, &mut send),
            Some(counts) => {
                counts.pass(Perms::KIND, view, |view| Perms::fit(self.limits, param, view, &mut send));
            }
        }
    }
}

/// A kind of request in the layers.
pub(super) trait LayeredRequest<P: DeviceParam>: DeviceRequest<P> {
    /// The kind that it is counted as.
    const KIND: RequestKind;

    /// Sends requests that keep the limits.
    fn fit(
        limits: Limits,
        param: P,
        view: BoundPacketView<Self>,
        send: &mut impl FnMut(P, BoundPacketView<Self>),
    );
}

impl LayeredRequest<u64> for Write {
    const KIND: RequestKind = RequestKind::Read;

    fn fit(limits: Limits, position: u64, view: BoundPacketView<Self>, send: &mut impl FnMut(u64, ReadView)) {
        if is_aligned(limits, position, view.len()) {
            split(limits, position, view, u64::checked_add, send);
        } else {
            read_around(limits, position, view, send);
        }
    }
}

type ReadView = BoundPacketView<Write>;
type WriteView = BoundPacketView<Read>;

impl LayeredRequest<u64> for Read {
    const KIND: RequestKind = RequestKind::Write;

    fn fit(limits: Limits, position: u64, view: WriteView, send: &mut impl FnMut(u64, WriteView)) {
        if is_aligned(limits, position, view.len()) {
            split(limits, position, view, u64::checked_add, send);
        } else {
            // Reading the rest of the units and writing it back could undo concurrent writes there.
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }
}

impl LayeredRequest<u64> for ReadWrite {
    const KIND: RequestKind = RequestKind::Exchange;

    fn fit(
        limits: Limits,
        position: u64,
        view: BoundPacketView<Self>,
        send: &mut impl FnMut(u64, BoundPacketView<Self>),
    ) {
        if is_aligned(limits, position, view.len()) {
            split(limits, position, view, u64::checked_add, send);
        } else {
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }
}

impl LayeredRequest<NoPos> for Write {
    const KIND: RequestKind = RequestKind::Read;

    fn fit(limits: Limits, _: NoPos, view: ReadView, send: &mut impl FnMut(NoPos, ReadView)) {
        if is_aligned(limits, 0, view.len()) {
            split(limits, NoPos, view, next_of_stream, send);
        } else {
            // The bytes behind the request would be taken out of the stream, and lost.
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }
}

impl LayeredRequest<NoPos> for Read {
    const KIND: RequestKind = RequestKind::Write;

    fn fit(limits: Limits, _: NoPos, view: WriteView, send: &mut impl FnMut(NoPos, WriteView)) {
        if is_aligned(limits, 0, view.len()) {
            split(limits, NoPos, view, next_of_stream, send);
        } else {
            view.error(IoError::from_code(Code::MISALIGNED));
        }
    }
}

/// The next part of a stream begins where the last one ended.
fn next_of_stream(_: NoPos, _: u64) -> Option<NoPos> {
    Some(NoPos)
}

fn is_aligned(limits: Limits, position: u64, len: usize) -> bool {
    let unit = u64::from(limits.alignment()) - 1;
    (position | len as u64) & unit == 0
}

/// Sends a view in parts that the device takes. The parts begin and end at multiples of the device's unit; `after` gives the
/// position of the next part.
fn split<Perms: DeviceRequest<P>, P: DeviceParam>(
    limits: Limits,
    mut at: P,
    mut view: BoundPacketView<Perms>,
    after: impl Fn(P, u64) -> Option<P>,
    send: &mut impl FnMut(P, BoundPacketView<Perms>),
) {
    let unit = u64::from(limits.alignment());
    let largest = limits.largest().map_or(u64::MAX, |largest| largest - largest % unit);
    while view.len() as u64 > largest {
        let (part, rest) = view.split_at(largest as usize);
        send(at, part);
        let Some(next) = after(at, largest) else { return rest.error(IoError::END) };
        (at, view) = (next, rest);
    }
    send(at, view);
}

/// Reads the units that a request lies in, and answers the request with its part.
fn read_around(limits: Limits, position: u64, view: ReadView, send: &mut impl FnMut(u64, ReadView)) {
    let unit = u64::from(limits.alignment());
    let start = position - position % unit;
    // Bytes between the start of the first unit and the start of the request.
    let skip = (position - start) as usize;
    let len = skip.checked_add(view.len()).and_then(|len| len.checked_next_multiple_of(unit as usize));
    // The end of the last unit must not exceed the end of all positions, 2^64.
    let Some(len) = len.filter(|&len| len == 0 || start.checked_add(len as u64 - 1).is_some()) else {
        return view.error(IoError::END);
    };
    let align = limits.memory_alignment() as usize;
    let memory = match AlignedBytes::zeroed(len, align.max(64)) {
        Ok(memory) => memory,
        Err(error) => return view.error(error),
    };
    // If there is no memory for the packet, `new` has failed the view.
    let Ok(mut around) = DerivedPacket::<_, Write, Write>::new(view, memory) else { return };
    let Ok(whole) = around.bind() else { return };
    around.on_complete(move |around| {
        // The request is complete here, so this does not fail.
        if let Ok((view, memory, report)) = around.into_parts() {
            report.answer(&memory, skip, view);
        }
    });
    split(limits, start, whole, u64::checked_add, send);
}
