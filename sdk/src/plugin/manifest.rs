//! The description of a plugin in its file, which is read without running any of the plugin's code.
//!
//! The description is JSON in a section of its own, made at compile time, so that any tool can read it:
//! `readelf -p .pactio FILE.so`.

use crate::abi::{ABI_MAJOR, ABI_MINOR, ABI_NEEDED_MINOR, FINGERPRINT};

/// Name of the section that has the manifest.
pub const MANIFEST_SECTION: &str = if cfg!(target_vendor = "apple") { "__pactio" } else { ".pactio" };

/// Version of the manifest's form. Hosts ignore fields that they do not know; the version changes when that would be wrong.
pub const MANIFEST_FORM: u32 = 1;

/// The description of a plugin; [`export_plugin!`](crate::export_plugin) makes it.
#[derive(Clone, Copy, Debug)]
pub struct StaticManifest {
    /// Short name, unique among plugins.
    pub id: &'static str,
    /// Version of the plugin.
    pub version: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// License expression, or nothing.
    pub license: &'static str,
    /// URL schemes; of a filter, the names by which it is put onto a device.
    pub schemes: &'static [&'static str],
    /// Its devices sit on other devices.
    pub filter: bool,
    /// A filter that only reads the device below, in whichever mode the filter itself is opened.
    pub below_read_only: bool,
    /// Options of its URLs.
    pub options: &'static [OptionSpec],
    /// Features that a host must have.
    pub requires: &'static [&'static str],
    /// A URL to check the plugin with, or nothing; `{folder}` stands for a folder that exists only for the check.
    pub check: &'static str,
    /// A panic unwinds, so that it can be caught.
    pub unwinds: bool,
}

/// One option of a plugin's URLs: hosts check it before the plugin is loaded, and show it as help.
///
/// ```
/// use pactio_sdk::OptionSpec;
///
/// const OPTIONS: &[OptionSpec] = &[
///     OptionSpec::size("size", "the size of the device").required().range("1", "1TiB"),
///     OptionSpec::choice("mode", "how it is written", &["direct", "cached"]).default("cached"),
///     OptionSpec::text("token", "opens the door").secret(),
/// ];
/// # assert_eq!(OPTIONS[1].name(), "mode");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    choices: &'static [&'static str],
    default: Option<&'static str>,
    least: Option<&'static str>,
    most: Option<&'static str>,
    required: bool,
    secret: bool,
    deprecated: Option<&'static str>,
}

impl OptionSpec {
    const fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            help,
            choices: &[],
            default: None,
            least: None,
            most: None,
            required: false,
            secret: false,
            deprecated: None,
        }
    }

    /// `true` or `false`.
    pub const fn flag(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "flag", help)
    }

    /// A whole number from -2⁶³ to 2⁶³ - 1.
    pub const fn integer(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "integer", help)
    }

    /// A number of bytes, such as `4096`, `64KiB` or `1.5GiB`.
    pub const fn size(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "size", help)
    }

    /// A time, such as `250ms`, `1.5s` or `2min`.
    pub const fn duration(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "duration", help)
    }

    /// Any text.
    pub const fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "text", help)
    }

    /// One of a few words.
    pub const fn choice(name: &'static str, help: &'static str, choices: &'static [&'static str]) -> Self {
        Self { choices, ..Self::new(name, "choice", help) }
    }

    /// Sets the value that the option has if a URL does not give it.
    #[must_use]
    pub const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }

    /// Sets the least and the greatest value of a number, a size or a duration.
    #[must_use]
    pub const fn range(self, least: &'static str, most: &'static str) -> Self {
        Self { least: Some(least), most: Some(most), ..self }
    }

    /// Marks the option as mandatory.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Marks the value as secret: it is shown nowhere, and may be given as `env:NAME`, `file:PATH` or `fd:NUMBER`, from which it
    /// is then read.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Marks the option as deprecated; `instead` says how to proceed.
    #[must_use]
    pub const fn deprecated(self, instead: &'static str) -> Self {
        Self { deprecated: Some(instead), ..self }
    }

    /// The name of the option.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl StaticManifest {
    /// Length of the JSON in bytes.
    pub const fn encoded_len(&self) -> usize {
        self.write(Writer { out: &mut [], at: 0 }).at
    }

    /// The JSON.
    ///
    /// # Panics
    ///
    /// If `N` is not the length of the JSON.
    pub const fn encode<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let written = self.write(Writer { out: &mut bytes, at: 0 }).at;
        assert!(written == N, "N is the length that `encoded_len` gives");
        bytes
    }

    const fn write<'a>(&self, out: Writer<'a>) -> Writer<'a> {
        let out = out.raw("{\"pactio\":").number(MANIFEST_FORM as u64);
        let out = out.raw(",\"abi\":\"").number(ABI_MAJOR as u64).raw(".").number(ABI_MINOR as u64);
        let out =
            out.raw("\",\"needs\":\"").number(ABI_MAJOR as u64).raw(".").number(ABI_NEEDED_MINOR as u64);
        let out = out.raw("\",\"fingerprint\":\"").hex(FINGERPRINT).raw("\"");
        let out = out.field("id", self.id).field("version", self.version);
        let out = out.field("description", self.description).field("license", self.license);
        let out = out.raw(if self.filter { ",\"filter\":true" } else { "" });
        let out = out.raw(if self.below_read_only { ",\"below_read_only\":true" } else { "" });
        let out = if self.check.is_empty() { out } else { out.field("check", self.check) };
        let out = out.list("schemes", self.schemes).list("requires", self.requires);
        let out = out.field("sdk", env!("CARGO_PKG_VERSION"));
        let out = out.field("rustc", env!("PACTIO_RUSTC")).field("target", env!("PACTIO_TARGET"));
        let out = out.field("panic", if self.unwinds { "unwind" } else { "abort" });
        let mut out = out.raw(",\"options\":[");
        let mut index = 0;
        while index < self.options.len() {
            let option = &self.options[index];
            out = out.raw(if index == 0 { "{\"name\":" } else { ",{\"name\":" }).string(option.name);
            out = out.field("type", option.kind).field("help", option.help);
            out = out.optional("default", option.default);
            out = out.optional("least", option.least).optional("most", option.most);
            out = out.optional("deprecated", option.deprecated);
            if !option.choices.is_empty() {
                out = out.list("choices", option.choices);
            }
            if option.required {
                out = out.raw(",\"required\":true");
            }
            if option.secret {
                out = out.raw(",\"secret\":true");
            }
            out = out.raw("}");
            index += 1;
        }
        out.raw("]}")
    }
}

/// Writes JSON, or only counts its bytes where `out` has no room.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    const fn byte(self, byte: u8) -> Self {
        if self.at < self.out.len() {
            self.out[self.at] = byte;
        }
        Self { out: self.out, at: self.at + 1 }
    }

    const fn raw(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            self = self.byte(bytes[index]);
            index += 1;
        }
        self
    }

    const fn string(self, text: &str) -> Self {
        let mut out = self.byte(b'"');
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            out = match bytes[index] {
                byte @ (b'"' | b'\\') => out.byte(b'\\').byte(byte),
                byte @ 0..0x20 => out.raw("\\u00").digit(byte >> 4).digit(byte & 15),
                byte => out.byte(byte),
            };
            index += 1;
        }
        out.byte(b'"')
    }

    const fn digit(self, digit: u8) -> Self {
        self.byte(b"0123456789abcdef"[digit as usize])
    }

    const fn hex(mut self, number: u64) -> Self {
        let mut shift = 64;
        while shift > 0 {
            shift -= 4;
            self = self.digit((number >> shift & 15) as u8);
        }
        self
    }

    const fn number(self, number: u64) -> Self {
        let out = if number >= 10 { self.number(number / 10) } else { self };
        out.digit((number % 10) as u8)
    }

    const fn field(self, name: &str, text: &str) -> Self {
        self.raw(",\"").raw(name).raw("\":").string(text)
    }

    const fn optional(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.field(name, text),
            None => self,
        }
    }

    const fn list(self, name: &str, texts: &[&str]) -> Self {
        let mut out = self.raw(",\"").raw(name).raw("\":[");
        let mut index = 0;
        while index < texts.len() {
            out = if index == 0 { out } else { out.byte(b',') }.string(texts[index]);
            index += 1;
        }
        out.byte(b']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_lengths_agree() {
        const MANIFEST: StaticManifest = StaticManifest {
            id: "a",
            version: "1",
            description: "\"quoted\" \\ line\nü",
            license: "",
            schemes: &["a", "b"],
            filter: false,
            below_read_only: false,
            options: &[
                OptionSpec::choice("c", "h", &["x", "y"]).default("x"),
                OptionSpec::text("t", "").secret(),
            ],
            requires: &[],
            check: "",
            unwinds: true,
        };
        let bytes: [u8; MANIFEST.encoded_len()] = MANIFEST.encode();
        let text = core::str::from_utf8(&bytes).unwrap();
        assert!(
            text.contains(
                r#""description":"\"quoted\" \\ line\u000aü","license":"","schemes":["a","b"],"requires":[]"#
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                r#""options":[{"name":"c","type":"choice","help":"h","default":"x","choices":["x","y"]},{"name":"t","type":"text","help":"","secret":true}]}"#
            ),
            "{text}"
        );
        assert!(text.contains(&format!("\"fingerprint\":\"{FINGERPRINT:016x}\"")), "{text}");
    }
}
