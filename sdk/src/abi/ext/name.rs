//! Names in a tree: bytes, with a text form that loses nothing.

use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;

/// A name in a tree: bytes, which need not be UTF-8.
///
/// [`Display`](fmt::Display) and [`from_text`](Self::from_text) are inverse to each other: control characters, `%`, and bytes
/// that are not UTF-8 are written as `%` and two hexadecimal digits.
///
/// ```
/// use pactio_sdk::Name;
///
/// let name = Name::from(b"100%\xff\n".to_vec());
/// assert_eq!(name.to_string(), "100%25%FF%0A");
/// assert_eq!(Name::from_text("100%25%FF%0A"), Some(name));
/// assert_eq!(Name::from("plain name").to_string(), "plain name");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name for its text form; `None` if a `%` is not followed by two hexadecimal digits.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, behind @ ..] = rest {
            rest = behind;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            let [high, low, behind @ ..] = rest else { return None };
            let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
            bytes.push(digit(*high)? << 4 | digit(*low)?);
            rest = behind;
        }
        Some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The bytes as text, if they are UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.0).ok()
    }

    /// Writes bytes in the text form of names, such as those of several names that are joined with `/`.
    pub fn show(bytes: &[u8]) -> impl fmt::Display + '_ {
        Shown(bytes)
    }
}

struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most names are plain, and are written at once.
        if self.0.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'%')
            && let Ok(plain) = core::str::from_utf8(self.0)
        {
            return f.write_str(plain);
        }
        for chunk in self.0.utf8_chunks() {
            let escaped = |character: char| character.is_control() || character == '%';
            // Runs of plain characters are written at once.
            let mut rest = chunk.valid();
            while let Some(at) = rest.find(escaped) {
                let (plain, behind) = rest.split_at(at);
                f.write_str(plain)?;
                let (character, behind) = behind.split_at(behind.chars().next().map_or(0, char::len_utf8));
                for byte in character.bytes() {
                    write!(f, "%{byte:02X}")?;
                }
                rest = behind;
            }
            f.write_str(rest)?;
            for byte in chunk.invalid() {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Shown(&self.0).to_string())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Shown(&self.0))
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

#[cfg(unix)]
impl From<std::ffi::OsString> for Name {
    fn from(text: std::ffi::OsString) -> Self {
        Self(std::os::unix::ffi::OsStringExt::into_vec(text))
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, text: &String) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, text: &&str) -> bool {
        self.0 == text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_comes_back_from_its_text() {
        let mut random = 1u64;
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len % 20)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 56) as u8
                })
                .collect();
            let name = Name::from(bytes);
            let text = name.to_string();
            assert!(!text.contains(char::is_control), "{text:?} has control characters");
            assert_eq!(Name::from_text(&text), Some(name), "of {text:?}");
        }
        for wrong in ["%", "%4", "a%zz", "100%"] {
            assert_eq!(Name::from_text(wrong), None, "{wrong:?} is no text of a name");
        }
        assert_eq!(Name::from("grün 名").to_string(), "grün 名");
    }
}
