//! A backend: a kind of device that a plugin can open.

use core::fmt;
use core::ops::BitOr;

use cglue::slice::CSliceRef;

use super::Below;
use crate::abi::{OpenFailure, RawOpenRequest};
use crate::{Code, Device, Error};

/// Opens devices of one kind. One value is made when the plugin is loaded, and shared.
pub trait Backend: Send + Sync + 'static {
    /// What it opens.
    type Device: Device;

    /// Opens a device. May block for as long as opening takes.
    ///
    /// # Errors
    ///
    /// An error with a message for people: what failed, why, and what to try.
    fn open(&self, request: &OpenRequest<'_>) -> Result<Self::Device, OpenError>;
}

/// What to open: the parts of a URL `scheme:target?key=value&key=value`, and what for.
#[derive(Clone, Debug)]
pub struct OpenRequest<'a> {
    scheme: &'a str,
    target: &'a str,
    options: Vec<(&'a str, &'a str)>,
    mode: OpenMode,
    below: Option<Below>,
}

impl<'a> OpenRequest<'a> {
    /// A request as a host makes it; in plugins, for tests.
    pub fn new(scheme: &'a str, target: &'a str, options: Vec<(&'a str, &'a str)>, mode: OpenMode) -> Self {
        Self { scheme, target, options, mode, below: None }
    }

    pub(crate) fn over(self, below: Below) -> Self {
        Self { below: Some(below), ..self }
    }

    /// What comes over the boundary; `None` if some text is not UTF-8.
    pub(crate) fn from_raw(raw: &'a RawOpenRequest<'_>) -> Option<Self> {
        fn text<'a>(slice: &'a CSliceRef<'_, u8>) -> Option<&'a str> {
            core::str::from_utf8(slice.as_slice()).ok()
        }
        let options = raw
            .options
            .as_slice()
            .iter()
            .map(|option| Some((text(&option.key)?, text(&option.value)?)))
            .collect::<Option<_>>()?;
        Some(Self {
            scheme: text(&raw.scheme)?,
            target: text(&raw.target)?,
            options,
            mode: OpenMode(raw.mode),
            below: None,
        })
    }

    /// The device that a filter sits on.
    ///
    /// # Errors
    ///
    /// If there is none: the plugin was not exported with `filter:`, or is used without a host.
    pub fn below(&self) -> Result<Below, OpenError> {
        self.below.clone().ok_or_else(|| {
            OpenError::invalid_input(format!(
                "'{}' is a filter: there must be a device below it",
                self.scheme
            ))
        })
    }

    /// The scheme, for backends that serve several.
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// What stands behind the scheme, such as a path.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// What the device is opened for.
    pub fn mode(&self) -> OpenMode {
        self.mode
    }

    /// The options, in the order of the URL, with the defaults of those that were not given. The host has checked them against
    /// the plugin's [`Manifest`](crate::Manifest): there are no others, and their values are what that says.
    pub fn options(&self) -> &[(&'a str, &'a str)] {
        &self.options
    }

    /// Value of an option; the last one counts if it is given twice.
    pub fn option(&self, key: &str) -> Option<&'a str> {
        self.options.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// Value of an option as a number of bytes: `4096`, `64KiB`, `1.5GiB`, `10MB`.
    ///
    /// # Errors
    ///
    /// A message that names the option and shows the forms.
    pub fn size_option(&self, key: &str) -> Result<Option<u64>, OpenError> {
        let Some(text) = self.option(key) else { return Ok(None) };
        parse_size(text).map(Some).ok_or_else(|| {
            OpenError::invalid_input(format!(
                "option '{key}' is '{text}', but must be a size such as 4096, 64KiB or 1.5GiB"
            ))
        })
    }

    /// Value of an option as anything that can be parsed.
    ///
    /// # Errors
    ///
    /// A message that names the option and says that it must be `expected`.
    pub fn parsed_option<T: core::str::FromStr>(
        &self,
        key: &str,
        expected: &str,
    ) -> Result<Option<T>, OpenError> {
        let Some(text) = self.option(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            OpenError::invalid_input(format!("option '{key}' is '{text}', but must be {expected}"))
        })
    }
}

/// Reads a number of bytes: decimal, optionally with a unit of powers of 1024 (`KiB`, `K`) or 1000 (`kB`) and a fraction
/// of it.
///
/// ```
/// assert_eq!(pactio_sdk::parse_size("1.5MiB"), Some(3 << 19));
/// assert_eq!(pactio_sdk::parse_size("lots"), None);
/// ```
pub fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 14] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("B", 1),
    ];
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
        .unwrap_or((text, 1));
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let (whole, fraction) = number.split_once('.')?;
    if factor == 1
        || fraction.is_empty()
        || fraction.len() > 9
        || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let total = u128::from(whole.parse::<u64>().ok()?) * scale + fraction.parse::<u128>().ok()?;
    u64::try_from(total * u128::from(factor) / scale).ok()
}

/// What a device is opened for: bits that can be joined with `|`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenMode(pub(crate) u32);

impl OpenMode {
    /// For nothing but to look at.
    pub const NONE: Self = Self(0);
    /// To be read.
    pub const READ: Self = Self(1);
    /// To be written.
    pub const WRITE: Self = Self(2);
    /// To be made if it does not exist.
    pub const CREATE: Self = Self(4);
    /// To be emptied if it exists.
    pub const TRUNCATE: Self = Self(8);

    /// All bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as they cross the boundary.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for OpenMode {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for OpenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::CREATE, "CREATE"),
            (Self::TRUNCATE, "TRUNCATE"),
        ];
        let set: Vec<&str> =
            names.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| *name).collect();
        write!(f, "OpenMode({})", set.join(" | "))
    }
}

/// Why a device was not opened: a kind and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    error: Error,
    message: String,
}

impl OpenError {
    /// An error with a message that says what failed, why, and what to try.
    pub fn new(error: Error, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// An argument makes no sense.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(Error::from_code(Code::InvalidInput), message)
    }

    /// The kind.
    pub fn error(&self) -> Error {
        self.error
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for OpenError {}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::new(error, error.to_string())
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        let message = error.to_string();
        Self::new(error.into(), message)
    }
}

impl From<OpenError> for OpenFailure {
    fn from(error: OpenError) -> Self {
        Self { error: error.error, message: error.message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(options: &[(&'a str, &'a str)]) -> OpenRequest<'a> {
        OpenRequest::new("test", "", options.to_vec(), OpenMode::READ)
    }

    #[test]
    fn sizes_are_read_with_units_and_fractions() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("64 KiB", 65536),
            ("1.5GiB", 3 << 29),
            ("10MB", 10_000_000),
            ("2K", 2048),
            ("17B", 17),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "-1", "1.5", "abc", "1.GiB", "99999999TiB", "1e3", "0x10", "1.-5GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_what_it_must_be() {
        let error = request(&[("size", "big")]).size_option("size").unwrap_err();
        assert_eq!(
            error.to_string(),
            "option 'size' is 'big', but must be a size such as 4096, 64KiB or 1.5GiB"
        );
        assert_eq!(error.error().code(), Code::InvalidInput);
    }

    #[test]
    fn the_last_of_two_equal_options_counts() {
        assert_eq!(request(&[("a", "1"), ("b", "2"), ("a", "3")]).option("a"), Some("3"));
    }
}
