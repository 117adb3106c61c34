//! `pactio.zero/1`: a range reads as zeros, and no zeros are sent.

use core::ops::Range;

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Code, IoError, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Makes ranges read as zeros, faster than by writing zeros. A filter passes this on only if zeros below are zeros above: a
/// cipher does not.
pub trait Zero: Send + Sync {
    /// Makes the bytes of `range` read as zeros. The answer may come later.
    ///
    /// - A range that ends past the end of the device is the error [`Code::END`](crate::Code::END). The size stays.
    /// - If the device is not faster than a write of zeros here, it answers [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED), and
    ///   the caller may write zeros.
    /// - After an error, each byte of the range is as it was, or zero.
    fn zero(&self, range: Range<u64>, mode: ZeroMode, answer: Answer);
}

/// The treatment of the storage below a range of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// It stays allocated, so that later writes do not run out of space.
    Keep,
    /// It is given back, as far as the device can: the range may become a hole.
    Release,
}

impl Capability {
    /// [`Zero`].
    pub const ZERO: Self = Self::of_storage("pactio.zero/1", "zero");
}

/// Length of the range in the text of the operation: start and length, little-endian.
const RANGE_BYTES: usize = 16;

impl Operation for dyn Zero {
    const OPERATION: Capability = Capability::ZERO;

    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        let mode = match number {
            0 => ZeroMode::Keep,
            1 => ZeroMode::Release,
            _ => return view.error(IoError::UNSUPPORTED),
        };
        match range_of(text) {
            Some(range) => self.zero(range, mode, Answer::new(view)),
            None => view.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

fn range_of(text: &[u8]) -> Option<Range<u64>> {
    let (start, len) = text.split_first_chunk()?;
    let (start, len) = (u64::from_le_bytes(*start), u64::from_le_bytes(len.try_into().ok()?));
    Some(start..start.checked_add(len)?)
}

impl ZeroMode {
    /// The number that crosses the boundary.
    #[doc(hidden)]
    pub fn to_raw(self) -> u64 {
        match self {
            Self::Keep => 0,
            Self::Release => 1,
        }
    }

    /// The range as it crosses the boundary.
    #[doc(hidden)]
    pub fn raw_range(range: &Range<u64>) -> [u8; RANGE_BYTES] {
        let mut text = [0; RANGE_BYTES];
        text[..8].copy_from_slice(&range.start.to_le_bytes());
        text[8..].copy_from_slice(&range.end.saturating_sub(range.start).to_le_bytes());
        text
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Zero> + ?Sized> Zero for T {
    fn zero(&self, range: Range<u64>, mode: ZeroMode, answer: Answer) {
        self.operate(mode.to_raw(), &ZeroMode::raw_range(&range), answer.into_view());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_and_others_are_refused() {
        for range in [0..0, 5..9, 0..u64::MAX, u64::MAX..u64::MAX] {
            assert_eq!(range_of(&ZeroMode::raw_range(&range)), Some(range));
        }
        let beyond = [u64::MAX.to_le_bytes(), 1u64.to_le_bytes()].concat();
        for text in [&b""[..], &[0; 15], &[0; 17], &beyond] {
            assert_eq!(range_of(text), None);
        }
    }
}
