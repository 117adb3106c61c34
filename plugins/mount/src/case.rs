//! Compares names, with or without regard to the case of their letters.

use std::borrow::Cow;

/// How names are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignored,
}

impl Case {
    /// A key. Names that count as the same have the same key.
    pub(crate) fn key(self, name: &[u8]) -> Cow<'_, [u8]> {
        match (self, str::from_utf8(name)) {
            (Self::Exact, _) => Cow::Borrowed(name),
            (Self::Ignored, Ok(text)) => Cow::Owned(text.to_lowercase().into_bytes()),
            (Self::Ignored, Err(_)) => Cow::Owned(name.to_ascii_lowercase()),
        }
    }

    pub(crate) fn same(self, one: &[u8], other: &[u8]) -> bool {
        one == other || (self == Self::Ignored && self.key(one) == self.key(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_all_alphabets_have_two_cases() {
        assert!(
            Case::Ignored.same("MAPS".as_bytes(), b"maps")
                && Case::Ignored.same("Größe".as_bytes(), "GRÖßE".as_bytes())
        );
        assert!(Case::Ignored.same(b"A\xff", b"a\xff") && !Case::Ignored.same(b"a", b"b"));
        assert!(!Case::Exact.same(b"A", b"a"));
    }
}
