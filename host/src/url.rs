//! `scheme:target?key=value&key=value`.

use std::fmt;
use std::ops::Range;

use pactio_sdk::Name;

use crate::{Error, ErrorKind};

/// Names a device: the scheme of its backend, its target, and its options.
///
/// ```
/// # use pactio::Url;
/// let url: Url = "file:/data/a%3Fb?threads=2".parse()?;
/// assert_eq!((url.scheme(), url.target()), ("file", "/data/a?b"));
/// assert_eq!(url.options(), [("threads".to_owned(), "2".to_owned())]);
/// assert_eq!(url.reveal(), "file:/data/a%3Fb?threads=2");
/// assert_eq!(url.to_string(), "file:/data/a%3Fb?threads=***");
/// # Ok::<(), pactio::Error>(())
/// ```
///
/// `?` begins the options, `|` a filter that sits on the part before it: `file:/data/a?threads=2 | cow?size=1GiB`. A part that
/// begins with `/` opens the entry with that name in the tree before it: `file:/data/a.zip | archive | /maps/e1.bsp`. In the
/// target a literal `?` is written `%3F`, a literal `|` as `%7C` and a literal `%` as `%25`; in options also `&` as `%26`.
///
/// `Display`, `Debug` and all messages of this crate hide possible secrets: passwords and the values of options.
/// [`reveal`](Url::reveal) gives the whole text. [`Device::url`](crate::Device::url) hides only the options that the device's
/// plugins declare secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: String,
    target: String,
    /// The path, if this part opens a name.
    name: Name,
    options: Vec<(String, String)>,
    filters: Vec<Url>,
}

impl Url {
    /// A URL of parts that are given without escapes.
    ///
    /// # Errors
    ///
    /// If `scheme` is invalid. A scheme is a letter, then letters, digits, `+`, `-` or `.`.
    pub fn new(scheme: &str, target: &str) -> Result<Self, Error> {
        if !is_scheme(scheme) {
            return Err(Error::new(ErrorKind::InvalidUrl, format!("'{scheme}' is not a URL scheme")));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            target: target.to_owned(),
            name: Name::default(),
            options: Vec::new(),
            filters: Vec::new(),
        })
    }

    /// This URL with one more option.
    #[must_use]
    pub fn with_option(mut self, key: &str, value: &str) -> Self {
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A filter for [`with_filter`](Self::with_filter). [`with_option`](Self::with_option) adds its options.
    ///
    /// # Errors
    ///
    /// If the name does not have the form of a scheme.
    pub fn filter(name: &str) -> Result<Self, Error> {
        Self::new(name, "")
    }

    /// This URL with one more [filter](Self::filter) on top.
    #[must_use]
    pub fn with_filter(mut self, filter: Url) -> Self {
        self.filters.push(filter);
        self
    }

    /// This URL with `filter` below its last part that does not have the scheme `besides`; `None` if there is no such part, or if
    /// that part is a name.
    #[cfg(feature = "check")]
    pub(crate) fn below_last_filter(mut self, filter: Url, besides: &str) -> Option<Self> {
        let last = self.filters.iter().rposition(|filter| filter.scheme != besides)?;
        self.filters[last].name().is_none().then_some(())?;
        self.filters.insert(last, filter);
        Some(self)
    }

    /// This URL of a tree, with an entry of the tree on top. `name` is a path: names joined with `/`. Names are bytes.
    ///
    /// ```
    /// # use pactio::Url;
    /// let tree: Url = "file:/data/a.zip | archive".parse()?;
    /// assert_eq!(tree.with_name("maps/e1.bsp").reveal(), "file:/data/a.zip | archive | /maps/e1.bsp");
    /// # Ok::<(), pactio::Error>(())
    /// ```
    #[must_use]
    pub fn with_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.filters.push(Self {
            scheme: NAME.to_owned(),
            target: String::new(),
            name: trimmed(name.as_ref()).into(),
            options: Vec::new(),
            filters: Vec::new(),
        });
        self
    }

    /// A name as a part of a URL.
    pub(crate) fn shown_name(name: &[u8]) -> String {
        format!("{NAME}{}", escape(name, b"?|"))
    }

    /// The name of the entry, if this is a part of another URL and opens an entry of a tree; `None` for a filter.
    pub fn name(&self) -> Option<&Name> {
        (self.scheme == NAME).then_some(&self.name)
    }

    /// The filters and names, from the lowest to the highest.
    pub fn filters(&self) -> &[Url] {
        &self.filters
    }

    /// The scheme, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The text between the scheme and the options.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The whole URL as text, with its secrets; parsing it gives the same URL.
    pub fn reveal(&self) -> String {
        self.hiding(|_| false, "")
    }

    /// The URL as text, with `instead` in place of the values of hidden options.
    pub(crate) fn hiding(&self, hidden: impl Fn(&str) -> bool, instead: &str) -> String {
        let mut shown = self.hiding_of_layer(&hidden, instead);
        for filter in &self.filters {
            shown.push_str(" | ");
            match filter.name() {
                Some(name) => shown.push_str(&Self::shown_name(name)),
                None => {
                    shown.push_str(&filter.scheme);
                    filter.show_options(&mut shown, &hidden, instead);
                }
            }
        }
        shown
    }

    /// This URL as text without its filters, with `instead` in place of the values of hidden options.
    pub(crate) fn hiding_of_layer(&self, hidden: impl Fn(&str) -> bool, instead: &str) -> String {
        let mut shown = format!("{}:{}", self.scheme, escape(self.target.as_bytes(), b"?|"));
        // A password in `//user:password@host/`, and a query, are hidden like an option with the empty name.
        if hidden(PASSWORD) {
            if let Some(start) = query(&shown) {
                shown.replace_range(start.., instead);
            }
            if let Some(range) = password(&shown) {
                shown.replace_range(range, instead);
            }
        }
        self.show_options(&mut shown, hidden, instead);
        shown
    }

    fn show_options(&self, shown: &mut String, hidden: impl Fn(&str) -> bool, instead: &str) {
        for (index, (key, value)) in self.options.iter().enumerate() {
            let joint = if index == 0 { '?' } else { '&' };
            let value = if hidden(key) { instead.to_owned() } else { escape(value.as_bytes(), b"&|") };
            shown.push_str(&format!("{joint}{}={value}", escape(key.as_bytes(), b"&=|")));
        }
    }

    /// The options in their order.
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }
}

/// Begins a name in a tree, in place of a filter's name.
const NAME: &str = "/";

/// The option name that stands for the password and the query of an address.
pub(crate) const PASSWORD: &str = "";

/// The range of the password in a URL, or of the user if there is no password.
fn password(url: &str) -> Option<Range<usize>> {
    let start = url.find("://")? + 3;
    let authority = &url[start..url[start..].find('/').map_or(url.len(), |len| start + len)];
    let user = &authority[..authority.rfind('@')?];
    // Without a password, the user may be a token.
    let secret = user.find(':').map_or(0, |colon| colon + 1);
    Some(start + secret..start + user.len())
}

/// The start of the query of an address. The query may contain a signature. In a path, a '?' is a part of a name.
fn query(url: &str) -> Option<usize> {
    const MARK: &str = "%3F";
    url.find("://").and_then(|_| Some(url.find(MARK)? + MARK.len()))
}

pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A path without separators at its ends.
pub(crate) fn trimmed(mut name: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = name {
        name = rest;
    }
    name
}

fn unescape(text: &str, what: &str) -> Result<String, Error> {
    String::from_utf8(unescape_bytes(text, what)?.into_bytes())
        .map_err(|_| Error::new(ErrorKind::InvalidUrl, format!("the {what} '{text}' is not UTF-8")))
}

fn unescape_bytes(text: &str, what: &str) -> Result<Name, Error> {
    Name::from_text(text).ok_or_else(|| {
        let message = format!("the '%' in the {what} '{text}' does not begin an escape such as %20");
        Error::new(ErrorKind::InvalidUrl, message).with_hint("write %25 for a plain '%'")
    })
}

/// Bytes as a part of a URL: the text form of names, with more escapes.
fn escape(bytes: &[u8], special: &[u8]) -> String {
    let text = Name::show(bytes).to_string();
    // The parser drops plain spaces at the end, since it takes them for spaces around a bar.
    let spaces_at_end = text.trim_end().len();
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if at >= spaces_at_end || special.iter().any(|&byte| char::from(byte) == character) {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

impl std::str::FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidUrl, message);
        if text.is_empty() {
            return Err(invalid("the URL is empty".to_owned())
                .with_hint("a URL is scheme:target, such as file:/etc/hostname"));
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(invalid(format!("'{text}' has no scheme"))
                .with_hint(format!("for a file, write file:{text}")));
        };
        // Spaces around a bar have no meaning.
        let mut layers = rest.split('|');
        let base = layers.next().unwrap_or_default();
        let base = if rest.contains('|') { base.trim_end() } else { base };
        let (target, options) = split(base);
        let url = Self::new(scheme, &unescape(target, "target")?)?
            .with_options(options, &format!("{scheme}:{target}"))?;
        layers.try_fold(url, |url, layer| {
            let (name, options) = split(layer.trim());
            if let Some(path) = name.strip_prefix(NAME) {
                if layer.contains('?') {
                    return Err(invalid(format!("'{name}' is a name in a tree, which takes no options"))
                        .with_hint("write %3F for a plain '?'"));
                }
                return Ok(url.with_name(unescape_bytes(path, "name")?));
            }
            if !is_scheme(name) {
                return Err(invalid(format!("'{name}' is not the name of a filter")).with_hint(
                    "a filter is put on like this: URL | name?key=value, and a name in a tree: URL | /name; write %7C for a plain '|'",
                ));
            }
            Ok(url.with_filter(Self::filter(name)?.with_options(options, name)?))
        })
    }
}

/// The text before and after the '?'.
fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

impl Url {
    /// This URL with options in their written form; `shown` is the text before them.
    fn with_options(mut self, options: &str, shown: &str) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidUrl, message);
        let options = options.split('&').filter(|option| !option.is_empty());
        for (index, option) in options.enumerate() {
            let Some((key, value)) = option.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                // The option may be a piece of a secret, which must not be shown.
                let number = index + 1;
                return Err(invalid(format!("option {number} of '{shown}?...' has no '='")).with_hint(
                    "options are key=value, joined with '&'; write %3F for a plain '?' in the target",
                ));
            };
            let key = unescape(key, "option")?;
            let value = unescape(value, "value").map_err(|_| {
                invalid(format!(
                    "the value of the option '{key}' has a '%' that does not begin an escape, or is not UTF-8"
                ))
                .with_hint("write %25 for a plain '%', and %26 for a plain '&'")
            })?;
            self = self.with_option(&key, &value);
        }
        Ok(self)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hiding(|_| true, "***"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({:?})", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_hidden() {
        for (text, shown) in [
            ("https://me:secret@host/a@b", "https://me:***@host/a@b"),
            ("https://me:s:e@c@host", "https://me:***@host"),
            ("https://me@host:80/a:b@c", "https://***@host:80/a:b@c"),
            ("https://host/a%3Fsignature=x", "https://host/a%3F***"),
            ("file:/a%3Fb", "file:/a%3Fb"),
            ("file:/a:b@c", "file:/a:b@c"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((format!("{url:?}"), url.to_string()), (format!("Url({shown:?})"), shown.to_owned()));
            assert_eq!(url.reveal(), text);
        }
    }

    #[test]
    fn urls_come_back_as_they_were() {
        for text in [
            "file:/a/b",
            "memory:?size=4KiB",
            "a+b.c-d:x?k=v&k=w&e=",
            "file:100%25?x=a%26b",
            "file:C:/windows",
            "file:/ümlaut/日本",
            "file:new%0Aline",
            "file:/a%7Cb?x=%7C | cow | cache?size=1MiB&x=y",
            "file:a b%20 | cow?x=%20%E3%80%80 | cache",
            "file:a.zip | archive | /maps/e1 %7C%3F%25.bsp%20 | cache",
            "file:/folder | /no UTF-8 %FF%0A",
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.reveal(), text);
            assert_eq!(url.reveal().parse::<Url>().unwrap(), url);
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, message, hint) in [
            ("", "the URL is empty", "a URL is scheme:target, such as file:/etc/hostname"),
            ("./x", "'./x' has no scheme", "for a file, write file:./x"),
            ("9:x", "'9:x' has no scheme", "for a file, write file:9:x"),
            (
                "file:50%",
                "the '%' in the target '50%' does not begin an escape such as %20",
                "write %25 for a plain '%'",
            ),
            (
                "file:a?b",
                "option 1 of 'file:a?...' has no '='",
                "options are key=value, joined with '&'; write %3F for a plain '?' in the target",
            ),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert_eq!((error.to_string().as_str(), error.hint()), (message, Some(hint)));
        }
        assert_eq!("file:%ff".parse::<Url>().unwrap_err().to_string(), "the target '%ff' is not UTF-8");
        assert!("file:%+1".parse::<Url>().is_err());
        let name: Url = "file:. | /%ff".parse().unwrap();
        assert_eq!(name.filters()[0].name().unwrap().as_bytes(), [0xff]);
    }
}
