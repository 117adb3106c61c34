//! What `pactio scan` looks for.

use regex::bytes::{Regex, RegexBuilder};

/// A pattern over bytes.
pub(super) struct Pattern {
    regex: Regex,
    /// The longest that a match is. A longer one is found as far as this.
    pub(super) longest: usize,
    /// Matches may overlap, as those of a fixed length do.
    overlaps: bool,
}

impl Pattern {
    /// Bytes in hexadecimal, `?` and `??` standing for any digit and byte: `48 8b ?? 0?`, with or without blanks.
    ///
    /// # Errors
    ///
    /// What makes no sense.
    pub(super) fn hex(text: &str) -> Result<Self, String> {
        let digits: Vec<char> = text.chars().filter(|character| !character.is_whitespace()).collect();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err("bytes have two digits each, such as 48 8b ?? 05".to_owned());
        }
        let digit = |digit: char| match digit {
            '?' => Ok(None),
            _ => digit.to_digit(16).map(Some).ok_or(format!("'{digit}' is no hexadecimal digit, nor ?")),
        };
        let mut regex = String::new();
        for pair in digits.chunks_exact(2) {
            regex.push_str(&match (digit(pair[0])?, digit(pair[1])?) {
                (Some(high), Some(low)) => format!("\\x{high:x}{low:x}"),
                (Some(high), None) => format!("[\\x{high:x}0-\\x{high:x}f]"),
                (None, Some(low)) => {
                    let bytes: String = (0..16).map(|high| format!("\\x{high:x}{low:x}")).collect();
                    format!("[{bytes}]")
                }
                (None, None) => ".".to_owned(),
            });
        }
        Self::fixed(&regex, digits.len() / 2)
    }

    /// These bytes.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub(super) fn bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("there is nothing to look for".to_owned());
        }
        let regex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        Self::fixed(&regex, bytes.len())
    }

    /// A value such as `u32:1234`, `i16:-5` or `f64:1.5`.
    ///
    /// # Errors
    ///
    /// What makes no sense.
    pub(super) fn value(text: &str, big_endian: bool) -> Result<Self, String> {
        macro_rules! bytes_of {
            ($kind:expr, $number:expr, $($name:literal $type:ty),*) => {
                match $kind {
                    $($name => $number.parse::<$type>().map_err(|error| format!("'{}' is no {}: {error}", $number, $name))
                        .map(|value| if big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }),)*
                    other => Err(format!("there is no type '{other}'; write u8, i8, u16, i16, u32, i32, u64, i64, f32 or f64")),
                }
            };
        }
        let (kind, number) = text.split_once(':').ok_or("a value has a type, such as u32:1234")?;
        let bytes = bytes_of!(
            kind, number, "u8" u8, "i8" i8, "u16" u16, "i16" i16, "u32" u32, "i32" i32, "u64" u64, "i64" i64,
            "f32" f32, "f64" f64
        )?;
        Self::bytes(&bytes)
    }

    /// A regular expression over bytes.
    ///
    /// # Errors
    ///
    /// What makes no sense.
    pub(super) fn regex(text: &str, longest: usize) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).unicode(false).build().map_err(|error| error.to_string())?;
        if regex.is_match(b"") {
            return Err("it matches nothing at all, which is everywhere".to_owned());
        }
        Ok(Self { regex, longest, overlaps: false })
    }

    fn fixed(regex: &str, len: usize) -> Result<Self, String> {
        let regex =
            RegexBuilder::new(regex).unicode(false).dot_matches_new_line(true).size_limit(1 << 28).build();
        Ok(Self { regex: regex.map_err(|error| error.to_string())?, longest: len, overlaps: true })
    }

    /// Calls `found` with start and end of each match that starts before `end`.
    pub(super) fn search(&self, bytes: &[u8], end: usize, mut found: impl FnMut(usize, usize)) {
        let mut from = 0;
        while from < end
            && let Some(matched) = self.regex.find_at(bytes, from)
            && matched.start() < end
        {
            found(matched.start(), matched.end());
            from = if self.overlaps { matched.start() + 1 } else { matched.end().max(matched.start() + 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &Pattern, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        pattern.search(bytes, bytes.len(), |start, end| all.push((start, end)));
        all
    }

    #[test]
    fn wildcards_stand_for_any_byte_and_digit() {
        let bytes = [0x48, 0x8b, b'\n', 0x05, 0x48, 0x8b, 0xff, 0x15];
        assert_eq!(all(&Pattern::hex("48 8b ?? 05").unwrap(), &bytes), [(0, 4)]);
        assert_eq!(all(&Pattern::hex("488b???5").unwrap(), &bytes), [(0, 4), (4, 8)]);
        assert_eq!(all(&Pattern::hex("F? 1?").unwrap(), &bytes), [(6, 8)]);
        assert!(Pattern::hex("488").is_err() && Pattern::hex("zz").is_err() && Pattern::hex("").is_err());
    }

    #[test]
    fn what_has_a_fixed_length_may_overlap() {
        assert_eq!(all(&Pattern::bytes(b"aa").unwrap(), b"aaa"), [(0, 2), (1, 3)]);
        assert_eq!(all(&Pattern::regex("a+", 10).unwrap(), b"aaa aa"), [(0, 3), (4, 6)]);
    }

    #[test]
    fn values_have_a_type_and_an_order() {
        let bytes = [0xd2, 0x04, 0, 0, 0, 0, 0x04, 0xd2];
        assert_eq!(all(&Pattern::value("u32:1234", false).unwrap(), &bytes), [(0, 4)]);
        assert_eq!(all(&Pattern::value("u32:1234", true).unwrap(), &bytes), [(4, 8)]);
        assert_eq!(all(&Pattern::value("f32:1.5", false).unwrap(), &1.5f32.to_le_bytes()), [(0, 4)]);
        for wrong in ["1234", "u8:256", "u128:1", "f32:x"] {
            assert!(Pattern::value(wrong, false).is_err(), "{wrong}");
        }
    }
}
