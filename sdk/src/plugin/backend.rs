//! A backend: a kind of device that a plugin can open.

use core::time::Duration;

use cglue::slice::CSliceRef;

use super::{Lower, parse_duration, parse_size};
use crate::BackendDevice;
use crate::abi::{OpenError, OpenMode, Opened, RawOpenRequest};

/// Opens devices of one kind. One value is made when the plugin is loaded, and shared.
pub trait Backend: Send + Sync + 'static {
    /// Type of the devices that the backend opens.
    type Device: BackendDevice;

    /// Opens a device. May block for as long as opening takes.
    ///
    /// # Errors
    ///
    /// An error with a message for people that names the failure, its reason and a remedy.
    fn open(&self, request: &OpenRequest<'_>) -> Result<Self::Device, OpenError>;

    /// Opens a device of any type, for a backend with devices of several types: hosts call this method.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        self.open(request).map(Opened::new)
    }
}

/// A request to open a device: the parts of a URL `scheme:target?key=value&key=value`, and the mode.
#[derive(Clone, Debug)]
pub struct OpenRequest<'a> {
    scheme: &'a str,
    target: &'a str,
    options: Vec<(&'a str, &'a str)>,
    mode: OpenMode,
    below: Option<Lower>,
}

impl<'a> OpenRequest<'a> {
    /// A request as a host makes it; in plugins, for tests.
    pub fn new(scheme: &'a str, target: &'a str, options: Vec<(&'a str, &'a str)>, mode: OpenMode) -> Self {
        Self { scheme, target, options, mode, below: None }
    }

    pub(crate) fn over(self, below: Lower) -> Self {
        Self { below: Some(below), ..self }
    }

    /// Decodes a request that crossed the boundary; `None` if some text is not UTF-8.
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
    /// If there is no such device: the plugin was not exported with `filter:`, or is used without a host.
    pub fn lower(&self) -> Result<Lower, OpenError> {
        self.below.clone().ok_or_else(|| {
            OpenError::invalid_input(format!(
                "'{}' is a filter: there must be a device below it",
                self.scheme
            ))
        })
    }

    /// The host, as a tree with URLs as names: [`open`](Lower::open) opens a URL, with the plugin that the URL names. For
    /// backends that are exported with `requires: ["open"]`.
    ///
    /// # Errors
    ///
    /// If there is no such host: the plugin was not exported with `requires: ["open"]`, or is used without a host.
    pub fn opener(&self) -> Result<Lower, OpenError> {
        self.below.clone().ok_or_else(|| {
            OpenError::invalid_input(format!(
                "'{}' opens other devices: it needs a host for that",
                self.scheme
            ))
        })
    }

    /// The scheme, for backends that serve several.
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// The part of the URL behind the scheme, such as a path.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The purpose for which the device is opened.
    pub fn mode(&self) -> OpenMode {
        self.mode
    }

    /// The options, in the order of the URL, with the default of each option that was not given. The host has checked the options
    /// against the plugin's [`StaticManifest`](crate::StaticManifest): there are no others, and their values are as the manifest
    /// declares.
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

    /// Value of an option as a time: `250ms`, `1.5s`, `2min`.
    ///
    /// # Errors
    ///
    /// A message that names the option and shows the forms.
    pub fn duration_option(&self, key: &str) -> Result<Option<Duration>, OpenError> {
        let Some(text) = self.option(key) else { return Ok(None) };
        parse_duration(text).map(Some).ok_or_else(|| {
            OpenError::invalid_input(format!(
                "option '{key}' is '{text}', but must be a time such as 250ms, 1.5s or 2min"
            ))
        })
    }

    /// Value of an option that is `true` or `false`; `false` if it is not given.
    ///
    /// # Errors
    ///
    /// A message that names the option.
    pub fn flag_option(&self, key: &str) -> Result<bool, OpenError> {
        self.parsed_option(key, "true or false").map(Option::unwrap_or_default)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn request<'a>(options: &[(&'a str, &'a str)]) -> OpenRequest<'a> {
        OpenRequest::new("test", "", options.to_vec(), OpenMode::READ)
    }

    #[test]
    fn a_wrong_value_is_named_with_what_it_must_be() {
        let error = request(&[("size", "big")]).size_option("size").unwrap_err();
        assert_eq!(
            error.to_string(),
            "option 'size' is 'big', but must be a size such as 4096, 64KiB or 1.5GiB"
        );
        assert_eq!(error.error().code(), Code::INVALID_INPUT);
    }

    #[test]
    fn the_last_of_two_equal_options_counts() {
        assert_eq!(request(&[("a", "1"), ("b", "2"), ("a", "3")]).option("a"), Some("3"));
    }
}
