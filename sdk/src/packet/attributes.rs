//! What a request tells the devices that serve it: its urgency, its deadline, and the number of the span that it belongs to.

use alloc::sync::Arc;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicI8, Ordering};
use core::time::Duration;
#[cfg(feature = "std")]
use std::time::Instant;

use super::header::{ATTRIBUTES, Packet};
use super::view::root;
use super::{BoundPacketView, PacketPerms};

/// What a request tells the devices that serve it.
///
/// Attributes are hints. A device with a queue serves [urgent](Self::set_urgency) requests first; a device that does costly work
/// may refuse a request whose deadline has passed, with [`IoError::LATE`](crate::IoError::LATE); a device that writes a record
/// about a request can put the span's number into it. Devices read them from any view of the request, at any depth:
/// [`BoundPacketView::urgency`] and its neighbours. Splits, batches, and packets that filters make to answer the request show the
/// attributes of the request.
///
/// The urgency of a request can change while the request is in flight: all clones share it. A filter that serves several requests
/// with one of its own, as caches do, passes on the urgency that they had when the last of them joined, and no deadline.
///
/// ```
/// use pactio_sdk::{Attributes, PacketBox, Write};
///
/// let attributes = Attributes::new().with_urgency(3);
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let (front, back) = packet.bind_with(attributes.clone(), None)?.split_at(4);
/// assert_eq!((front.urgency(), back.urgency(), back.time_left()), (3, 3, None));
/// attributes.set_urgency(-1);
/// assert_eq!(back.urgency(), -1);
/// # front.transfer_data(b"data").complete();
/// # back.transfer_data(b"data").complete();
/// # Ok::<(), pactio_sdk::IoError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    urgency: Arc<AtomicI8>,
    #[cfg(feature = "std")]
    deadline: Option<Instant>,
    span: Option<NonZeroU64>,
}

/// The numbers by which views ask for attributes, and the meaning of the answers: part of the ABI. An unknown number has the
/// answer 0.
mod number {
    /// A signed number.
    pub(super) const URGENCY: u32 = 1;
    /// 0: there is no deadline. Else the time left in nanoseconds, and 1.
    pub(super) const TIME_LEFT: u32 = 2;
    /// 0: there is no span. Else its number.
    pub(super) const SPAN: u32 = 3;
}

impl Attributes {
    /// Urgency 0, without deadline and span, like a request without attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the urgency of these attributes and all their clones.
    #[must_use]
    pub fn with_urgency(self, urgency: i8) -> Self {
        self.set_urgency(urgency);
        self
    }

    /// The time after which the result is of no use. The request is answered all the same, perhaps later.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn with_deadline(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The number of the span that the request belongs to, such as `tracing::Span::id` gives it. Plugins see the number and no
    /// more.
    #[must_use]
    pub fn with_span(self, span: NonZeroU64) -> Self {
        Self { span: Some(span), ..self }
    }

    /// Changes the urgency, also of requests in flight: higher is more urgent, and 0 is usual.
    pub fn set_urgency(&self, urgency: i8) {
        // Ordering: Relaxed. The number guards no data.
        self.urgency.store(urgency, Ordering::Relaxed);
    }

    /// The urgency.
    pub fn urgency(&self) -> i8 {
        // Ordering: Relaxed. The number guards no data.
        self.urgency.load(Ordering::Relaxed)
    }

    /// The time until the deadline; zero behind it. `None` without a deadline.
    pub fn time_left(&self) -> Option<Duration> {
        #[cfg(feature = "std")]
        return self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        #[cfg(not(feature = "std"))]
        None
    }

    /// The number of the span.
    pub fn span(&self) -> Option<NonZeroU64> {
        self.span
    }

    /// The answer to the number of an attribute.
    pub(super) fn number(&self, id: u32) -> u64 {
        match id {
            number::URGENCY => i64::from(self.urgency()) as u64,
            number::TIME_LEFT => self
                .time_left()
                .map_or(0, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)),
            number::SPAN => self.span.map_or(0, NonZeroU64::get),
            _ => 0,
        }
    }
}

impl<Perms: PacketPerms> BoundPacketView<Perms> {
    /// The urgency of the view's [request](Self::request): higher is more urgent, and 0 is usual. It may change while the request
    /// is in flight.
    pub fn urgency(&self) -> i8 {
        self.attribute(number::URGENCY) as i8
    }

    /// The time until the deadline of the view's [request](Self::request); zero behind it. `None` without a deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.attribute(number::TIME_LEFT).checked_sub(1).map(Duration::from_nanos)
    }

    /// The deadline of the view's [request](Self::request) has passed, so that its result is of no use. The view owes an answer all
    /// the same; [`IoError::LATE`](crate::IoError::LATE) is a suitable error.
    pub fn is_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    /// The number of the span that the view's [request](Self::request) belongs to, for records about the request.
    pub fn span(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.attribute(number::SPAN))
    }

    /// The attributes as they are now, for a request that serves this one and perhaps others, and keeps no view of them: a change
    /// of the urgency does not reach it.
    pub fn attributes(&self) -> Attributes {
        let attributes = Attributes { span: self.span(), ..Attributes::new().with_urgency(self.urgency()) };
        #[cfg(feature = "std")]
        let attributes = Attributes {
            deadline: self.time_left().and_then(|left| Instant::now().checked_add(left)),
            ..attributes
        };
        attributes
    }

    fn attribute(&self, id: u32) -> u64 {
        // SAFETY: this view keeps its packet alive (state rule 1), which keeps its origin, and so on up to the root. A maker that
        // sets ATTRIBUTES has a table with `attribute`.
        unsafe {
            let packet = root(self.packet().cast()).cast::<Packet<()>>();
            if (*packet).flags & ATTRIBUTES == 0 {
                0
            } else {
                ((*(*packet).table).attribute)(packet.cast(), id)
            }
        }
    }
}
