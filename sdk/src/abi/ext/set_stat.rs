//! `pactio.set-stat/1`: metadata of names in a tree can be set.

use super::field::{Fields, FieldsOf};
use super::record::Record;
use super::rename::both_names;
use super::{Answer, Capability, Operation, Stat};
use crate::{BoundPacketView, Code, IoError, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Sets metadata of names in a tree. A tree has it if it was opened for writing.
pub trait SetStat: Send + Sync {
    /// Sets the known fields of `stat` for a name, and leaves the others as they are. If there is a field that this device cannot
    /// set, such as [`size`](Stat::size), it fails with [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED), and nothing changes. The
    /// answer may come later.
    fn set_stat(&self, name: &[u8], stat: Stat, answer: Answer);
}

impl Capability {
    /// [`SetStat`].
    pub const SET_STAT: Self = Self::of_storage("pactio.set-stat/1", "set metadata");
}

impl Operation for dyn SetStat {
    const OPERATION: Capability = Capability::SET_STAT;

    fn operate(&self, _: u64, text: &[u8], view: BoundPacketView<Write>) {
        let parts = both_names(text)
            .and_then(|(name, fields)| Some((name, Stat::read(FieldsOf::new(fields).ok()?).ok()?)));
        match parts {
            Some((name, stat)) => self.set_stat(name, stat, Answer::new(view)),
            None => view.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

/// The text of the operation: the name, a zero byte, which names do not have, and the known fields.
#[doc(hidden)]
pub fn stat_of_name(name: &[u8], stat: &Stat) -> Vec<u8> {
    let mut text = [name, &[0]].concat();
    stat.write(&mut Fields(&mut text));
    text
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn SetStat> + ?Sized> SetStat for T {
    fn set_stat(&self, name: &[u8], stat: Stat, answer: Answer) {
        self.operate(0, &stat_of_name(name, &stat), answer.into_view());
    }
}
