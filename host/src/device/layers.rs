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
    pub(super) fn pass<Perms: LayeredRequest<P>, P: Placed>(
        &self,
        param: P,
        view: BoundPacketView<Perms>,
        mut send: impl FnMut(P, BoundPacketView<Perms>),
    ) {
        match &self.counts {
            None => fit(self.limits, param, view, &mut send),
            Some(counts) => {
                counts.pass(Perms::KIND, view, |view| fit(self.limits, param, view, &mut send));
            }
        }
    }
}

/// A kind of request in the layers.
pub(super) trait LayeredRequest<P: Placed>: DeviceRequest<P> {
    /// The kind that it is counted as.
    const KIND: RequestKind;

    /// Handles a request that breaks the device's alignment. Only reads of positions can be served: a write would need the rest
    /// of the units, and could undo concurrent writes there; a stream would lose the bytes behind a shorter read.
    fn misaligned(
        limits: Limits,
        param: P,
        view: BoundPacketView<Self>,
        send: &mut impl FnMut(P, BoundPacketView<Self>),
    ) {
        let _ = (limits, param, send);
        view.error(IoError::from_code(Code::MISALIGNED));
    }
}

impl LayeredRequest<u64> for Write {
    const KIND: RequestKind = RequestKind::Read;

    fn misaligned(limits: Limits, position: u64, view: ReadView, send: &mut impl FnMut(u64, ReadView)) {
        read_around(limits, position, view, send);
    }
}

type ReadView = BoundPacketView<Write>;

impl LayeredRequest<u64> for Read {
    const KIND: RequestKind = RequestKind::Write;
}

impl LayeredRequest<u64> for ReadWrite {
    const KIND: RequestKind = RequestKind::Exchange;
}

impl LayeredRequest<NoPos> for Write {
    const KIND: RequestKind = RequestKind::Read;
}

impl LayeredRequest<NoPos> for Read {
    const KIND: RequestKind = RequestKind::Write;
}

/// The place of a request: a position, or the next bytes of a stream.
pub(super) trait Placed: DeviceParam {
    /// The bits of the place that an alignment concerns.
    fn bits(self) -> u64;

    /// The place of the bytes that are `len` bytes further, if there is one.
    fn after(self, len: u64) -> Option<Self>;
}

impl Placed for u64 {
    fn bits(self) -> u64 {
        self
    }

    fn after(self, len: u64) -> Option<Self> {
        self.checked_add(len)
    }
}

impl Placed for NoPos {
    fn bits(self) -> u64 {
        0
    }

    fn after(self, _: u64) -> Option<Self> {
        Some(self)
    }
}

/// Sends requests that keep the limits.
fn fit<Perms: LayeredRequest<P>, P: Placed>(
    limits: Limits,
    param: P,
    view: BoundPacketView<Perms>,
    send: &mut impl FnMut(P, BoundPacketView<Perms>),
) {
    let within_unit = u64::from(limits.alignment()) - 1;
    if (param.bits() | view.len() as u64) & within_unit == 0 {
        split(limits, param, view, send);
    } else {
        Perms::misaligned(limits, param, view, send);
    }
}

/// Sends a view in parts that the device takes. The parts begin and end at multiples of the device's unit.
fn split<Perms: DeviceRequest<P>, P: Placed>(
    limits: Limits,
    mut place: P,
    mut view: BoundPacketView<Perms>,
    send: &mut impl FnMut(P, BoundPacketView<Perms>),
) {
    let unit = u64::from(limits.alignment());
    let largest = limits.largest().map_or(u64::MAX, |largest| largest - largest % unit);
    while view.len() as u64 > largest {
        let (part, rest) = view.split_at(largest as usize);
        send(place, part);
        let Some(next) = place.after(largest) else { return rest.error(IoError::END) };
        (place, view) = (next, rest);
    }
    send(place, view);
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
    split(limits, start, whole, send);
}
