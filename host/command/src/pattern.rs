//! The patterns of `pactio scan`.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind, Span, packed};
use regex::bytes::{Regex, RegexBuilder};

/// A pattern over bytes.
pub(super) struct Pattern {
    search: Search,
    /// Number of bytes before a match that decide whether it is one.
    pub(super) before: usize,
    /// Number of bytes behind the first byte of a match that belong to it or decide whether it is one.
    pub(super) behind: usize,
}

/// A search for the next match.
enum Search {
    /// A pattern of fixed length: its matches may overlap.
    Fixed(Regex),
    /// An expression, and the same with one more byte behind it, which is no part of the match: where a text goes on, `$` and
    /// `\b` must not take the end of the read bytes for the end of the text.
    Expression(Regex, Regex),
    /// A few texts, by vector instructions.
    Packed(packed::Searcher),
    /// Many texts.
    Texts(AhoCorasick),
}

/// Most texts that are searched by vector instructions: with more, these find too many candidates.
const MAX_PACKED_TEXTS: usize = 64;

/// Number of bytes that `^`, `$` and `\b` look at: a character has at most 4 bytes, and with 8 an aligned position before
/// remains one.
const AROUND: usize = 8;

impl Pattern {
    /// Bytes in hexadecimal, `?` and `??` standing for any digit and byte: `48 8b ?? 0?`, with or without blanks.
    ///
    /// # Errors
    ///
    /// If the text has another form.
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
    /// If the text has another form, or the value does not fit the type.
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

    /// A regular expression over bytes. Matches of up to `longest` bytes are found wherever they are.
    ///
    /// # Errors
    ///
    /// If the expression is not valid, or matches no bytes at all.
    pub(super) fn regex(text: &str, longest: usize) -> Result<Self, String> {
        let build = |text: &str| RegexBuilder::new(text).unicode(false).build();
        let regex = build(text).map_err(|error| error.to_string())?;
        if regex.is_match(b"") {
            return Err("it matches nothing at all, which is everywhere".to_owned());
        }
        let within = build(&format!("(?:{text})(?s-u:.)"))
            // The expression ends with a comment, which extends to the end of the line.
            .or_else(|_| build(&format!("(?:{text}\n)(?s-u:.)")))
            .map_err(|error| error.to_string())?;
        Ok(Self { search: Search::Expression(regex, within), before: AROUND, behind: longest - 1 + AROUND })
    }

    fn fixed(regex: &str, len: usize) -> Result<Self, String> {
        let regex =
            RegexBuilder::new(regex).unicode(false).dot_matches_new_line(true).size_limit(1 << 28).build();
        let regex = regex.map_err(|error| error.to_string())?;
        Ok(Self { search: Search::Fixed(regex), before: 0, behind: len - 1 })
    }

    /// The lines of a file, each a text. At a position where several begin, the longest is the match.
    ///
    /// # Errors
    ///
    /// If there is no text.
    pub(super) fn texts(lines: &[u8]) -> Result<Self, String> {
        let mut texts: Vec<&[u8]> =
            lines.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).collect();
        texts.sort_unstable();
        texts.dedup();
        let longest = texts
            .iter()
            .map(|text| text.len())
            .max()
            .ok_or("the file has no texts; write one on each line")?;
        let packed = || {
            let config = packed::Config::new().match_kind(packed::MatchKind::LeftmostLongest).clone();
            config.builder().extend(&texts).build()
        };
        let search = match Some(texts.len()).filter(|count| *count <= MAX_PACKED_TEXTS).and_then(|_| packed())
        {
            Some(packed) => Search::Packed(packed),
            None => {
                let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
                Search::Texts(built.map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { search, before: 0, behind: longest - 1 })
    }

    /// The first match that begins at `from` or behind it. The text before `from` is only looked at.
    pub(super) fn find(&self, text: Text<'_>, from: usize) -> Option<Range<usize>> {
        match &self.search {
            Search::Fixed(regex) => regex.find_at(text.bytes, from).map(|found| found.range()),
            Search::Expression(regex, within) => {
                let found = regex.find_at(text.bytes, from)?.range();
                if text.ends || found.end < text.bytes.len() {
                    return Some(found);
                }
                // Only a match that touches the end of the read bytes can depend on them ending there. The longer expression has
                // no fast search for a literal inside of it, so it is used for these matches only.
                within.find_at(text.bytes, found.start).map(|found| found.start()..found.end() - 1)
            }
            Search::Packed(texts) => {
                let span = Span { start: from, end: text.bytes.len() };
                texts.find_in(text.bytes, span).map(|found| found.start()..found.end())
            }
            Search::Texts(texts) => {
                texts.find(Input::new(text.bytes).range(from..)).map(|found| found.start()..found.end())
            }
        }
    }

    /// The position at which the search for the next match begins.
    pub(super) fn next(&self, found: &Range<usize>) -> usize {
        let is_expression = matches!(self.search, Search::Expression(..));
        if is_expression { found.end.max(found.start + 1) } else { found.start + 1 }
    }
}

/// Bytes that are searched, with nothing before them.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    /// Nothing lies behind the bytes either.
    pub(super) ends: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_in(pattern: &Pattern, text: Text<'_>) -> Vec<(usize, usize)> {
        let (mut all, mut from) = (Vec::new(), 0);
        while from <= text.bytes.len()
            && let Some(found) = pattern.find(text, from)
        {
            from = pattern.next(&found);
            all.push((found.start, found.end));
        }
        all
    }

    fn all(pattern: &Pattern, bytes: &[u8]) -> Vec<(usize, usize)> {
        all_in(pattern, Text { bytes, ends: true })
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
    fn where_a_text_goes_on_is_not_its_end() {
        for (expression, at_the_end, within) in [
            ("foo$", &[(4, 7)][..], &[][..]),
            ("foo\\b", &[(0, 3), (4, 7)], &[(0, 3)]),
            ("[a-z]+", &[(0, 3), (4, 7)], &[(0, 3), (4, 6)]),
            ("(?x) foo # a remark", &[(0, 3), (4, 7)], &[(0, 3)]),
            ("foo|(?m:o$)", &[(0, 3), (4, 7)], &[(0, 3)]),
        ] {
            let pattern = Pattern::regex(expression, 10).unwrap();
            let found = |ends| all_in(&pattern, Text { bytes: b"foo\nfoo", ends });
            assert_eq!((&found(true)[..], &found(false)[..]), (at_the_end, within), "{expression}");
        }
    }

    #[test]
    fn texts_are_found_wherever_they_are_few_or_many() {
        let mut bytes = vec![b'.'; 10_000];
        let mut expected = Vec::new();
        for (index, text) in ["needle", "need", "\u{e4}", "straw-44"].into_iter().enumerate() {
            for at in [index * 100, 5000 + index * 64, 9990 - index * 300] {
                bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
                expected.push((at, at + text.len()));
            }
        }
        expected.sort_unstable();
        let few = "needle\nneed\n\u{e4}\n\nstraw-44\nneed".to_owned();
        let many = (0..1000).fold(few.clone(), |texts, number| format!("{texts}\nstraw-{number:04}"));
        for texts in [few, many] {
            assert_eq!(all(&Pattern::texts(texts.as_bytes()).unwrap(), &bytes), expected);
        }
        assert!(Pattern::texts(b"\n\n").is_err());
        assert_eq!(all(&Pattern::texts(b"aa").unwrap(), b"aaa"), [(0, 2), (1, 3)]);
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
