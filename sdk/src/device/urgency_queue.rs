//! A queue of requests that serves the urgent ones first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::time::{Duration, Instant};

use crate::{BoundPacketView, PacketPerms};

/// An element of an [`UrgencyQueue`].
pub trait Urgent {
    /// The urgency, which may change while the element waits: higher is more urgent, and 0 is usual.
    fn urgency(&self) -> i8;
}

impl<Perms: PacketPerms> Urgent for BoundPacketView<Perms> {
    fn urgency(&self) -> i8 {
        self.urgency()
    }
}

/// Elements that wait: the most urgent comes first, and among equals the one that came first. Each eighth element is the one that
/// waits for the longest time, so that none waits for ever.
///
/// A change of [urgency](crate::Attributes::set_urgency) takes effect within a millisecond, in a queue of tens of thousands of
/// elements later: the queue spends at most a twentieth of its time on looking for changes.
///
/// ```
/// use pactio_sdk::{Attributes, PacketBox, UrgencyQueue, Write};
///
/// let mut queue = UrgencyQueue::default();
/// let mut packets = [0, 0, 5].map(|_| PacketBox::<Write>::new_buf(8).unwrap());
/// for (number, urgency) in [0, 0, 5].into_iter().enumerate() {
///     let mut view = packets[number].bind_with(Attributes::new().with_urgency(urgency), None)?;
///     view.set_tag(number as u64);
///     queue.push(view);
/// }
/// let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|view| view.tag()).collect();
/// assert_eq!(order, [2, 0, 1]);
/// # Ok::<(), pactio_sdk::IoError>(())
/// ```
#[derive(Debug)]
pub struct UrgencyQueue<T> {
    /// By urgency, as it was at the last look, and by arrival.
    waiting: BTreeMap<(Reverse<i8>, u64), T>,
    arrivals: u64,
    /// The time from which on the urgency of all elements is looked at again.
    next_look: Option<Instant>,
    /// Number of elements that were taken.
    taken: u32,
}

/// The element that comes next, still in its queue.
#[derive(Debug)]
pub struct First<'q, T> {
    queue: &'q mut UrgencyQueue<T>,
    place: (Reverse<i8>, u64),
}

/// One of this many elements is the one that waits for the longest time.
const OLDEST_OF: u32 = 8;

/// The least time between two looks at the urgency of all elements.
const MIN_REST: Duration = Duration::from_millis(1);

/// The least time between two looks, in times of the first look's duration.
const REST_PER_LOOK: u32 = 20;

impl<T> Default for UrgencyQueue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), arrivals: 0, next_look: None, taken: 0 }
    }
}

impl<T: Urgent> UrgencyQueue<T> {
    /// Adds an element.
    pub fn push(&mut self, element: T) {
        self.arrivals += 1;
        self.waiting.insert((Reverse(element.urgency()), self.arrivals), element);
    }

    /// The element that comes next.
    pub fn first(&mut self) -> Option<First<'_, T>> {
        self.look();
        let place = match self.taken % OLDEST_OF {
            7 => self.oldest(),
            _ => self.waiting.first_key_value().map(|(place, _)| *place),
        }?;
        Some(First { queue: self, place })
    }

    /// The place of the element that waits for the longest time.
    fn oldest(&self) -> Option<(Reverse<i8>, u64)> {
        let mut oldest = *self.waiting.first_key_value()?.0;
        let mut urgency = oldest.0;
        // The first of each urgency.
        while let Some((place, _)) =
            self.waiting.range((Bound::Excluded((urgency, u64::MAX)), Bound::Unbounded)).next()
        {
            urgency = place.0;
            if place.1 < oldest.1 {
                oldest = *place;
            }
        }
        Some(oldest)
    }

    /// Takes the element that comes next.
    pub fn pop(&mut self) -> Option<T> {
        self.first().map(First::take)
    }

    /// Takes the element that comes next if `fits` says so.
    pub fn pop_if(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let first = self.first()?;
        fits(&first).then(|| first.take())
    }

    /// Takes the elements that are meant, in order.
    pub fn take_all(&mut self, mut is_meant: impl FnMut(&T) -> bool) -> Vec<T> {
        self.waiting.extract_if(.., |_, element| is_meant(element)).map(|(_, element)| element).collect()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// No element waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Moves the elements whose urgency has changed, unless that was done just before.
    fn look(&mut self) {
        if self.waiting.len() < 2 {
            return;
        }
        let begun = Instant::now();
        if self.next_look.is_some_and(|next| begun < next) {
            return;
        }
        let changed: Vec<_> = self
            .waiting
            .extract_if(.., |(Reverse(urgency), _), element| element.urgency() != *urgency)
            .collect();
        for ((_, arrival), element) in changed {
            self.waiting.insert((Reverse(element.urgency()), arrival), element);
        }
        let ended = Instant::now();
        self.next_look = Some(ended + MIN_REST.max((ended - begun) * REST_PER_LOOK));
    }
}

impl<T> First<'_, T> {
    /// Takes the element out of the queue.
    pub fn take(self) -> T {
        self.queue.taken = self.queue.taken.wrapping_add(1);
        self.queue.waiting.remove(&self.place).expect("the queue is borrowed since the place was found")
    }
}

impl<T> Deref for First<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.queue.waiting[&self.place]
    }
}

impl<T: Urgent> Extend<T> for UrgencyQueue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{Attributes, PacketBox, Write};

    #[test]
    fn elements_come_by_urgency_and_arrival_and_changes_take_effect() {
        let mut queue = UrgencyQueue::default();
        let attributes: Vec<_> =
            [0, 3, 0, -2, 3].map(|urgency| Attributes::new().with_urgency(urgency)).into();
        let mut packets: Vec<_> = (0..5).map(|_| PacketBox::<Write>::new_buf(1).unwrap()).collect();
        for (number, packet) in packets.iter_mut().enumerate() {
            let mut view = packet.bind_with(attributes[number].clone(), None).unwrap();
            view.set_tag(number as u64);
            queue.push(view);
        }
        let tag = |view: Option<BoundPacketView<Write>>| view.map(|view| view.tag());
        assert_eq!(tag(queue.pop()), Some(1));
        attributes[3].set_urgency(9);
        attributes[4].set_urgency(0);
        thread::sleep(queue.next_look.unwrap().saturating_duration_since(Instant::now()));
        assert!(queue.pop_if(|view| view.tag() != 3).is_none());
        let order: Vec<_> = std::iter::from_fn(|| tag(queue.pop())).collect();
        assert_eq!(order, [3, 0, 2, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn none_waits_for_ever() {
        struct Of(i8, u32);

        impl Urgent for Of {
            fn urgency(&self) -> i8 {
                self.0
            }
        }

        let mut queue = UrgencyQueue::default();
        queue.extend([Of(9, 0), Of(0, 1), Of(-3, 2), Of(5, 3)]);
        let mut order = Vec::new();
        for number in 4..40 {
            // Two more urgent ones always wait.
            queue.extend([Of(9, number), Of(9, number)]);
            let first = queue.first().unwrap();
            let number = first.1;
            assert_eq!(first.take().1, number);
            order.push(number);
        }
        let places = [1, 2, 3].map(|number| order.iter().position(|taken| *taken == number));
        assert_eq!(places, [Some(7), Some(15), Some(23)]);
    }

    #[test]
    fn a_long_queue_is_looked_at_seldom() {
        use std::cell::Cell;

        struct Counted<'c>(&'c Cell<usize>);

        impl Urgent for Counted<'_> {
            fn urgency(&self) -> i8 {
                self.0.set(self.0.get() + 1);
                0
            }
        }

        const LEN: usize = 100_000;
        let looks = Cell::new(0);
        let mut queue = UrgencyQueue::default();
        queue.extend((0..LEN).map(|_| Counted(&looks)));
        while queue.pop().is_some() {}
        // A look before each element would need LEN / 2 per element.
        assert!(looks.get() < 100 * LEN, "{} looks per element", looks.get() / LEN);
    }

    #[test]
    fn those_that_are_meant_are_taken_in_order() {
        let mut queue = UrgencyQueue::default();
        let mut packets: Vec<_> = (0..6).map(|_| PacketBox::<Write>::new_buf(1).unwrap()).collect();
        queue.extend(packets.iter_mut().enumerate().map(|(number, packet)| {
            let mut view = packet.bind().unwrap();
            view.set_tag(number as u64);
            view
        }));
        let odd = queue.take_all(|view| view.tag() % 2 == 1);
        assert_eq!(odd.iter().map(BoundPacketView::tag).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(queue.len(), 3);
    }
}
