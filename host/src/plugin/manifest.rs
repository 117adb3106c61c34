//! The description of a plugin in its file; `examine` reads its bytes from the file.

use pactio_sdk::MANIFEST_FORM;
use pactio_sdk::abi::FINGERPRINT;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::REBUILD;
use super::spec::{self, OptionKind, PluginOption};
use super::{Refusal, RefusalKind, version};

/// The description of a plugin. It is read from the file; no code of the plugin runs for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Short name, unique among plugins.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// License expression; may be empty.
    #[serde(default)]
    pub license: String,
    /// Whether the plugin is a filter: its devices sit on others. A filter is put onto a URL with `|`, and has no URLs of its
    /// own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filter: bool,
    /// Whether the plugin is a filter that only reads the device below.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below_read_only: bool,
    /// URL schemes that its backend opens; of a filter, its names.
    pub schemes: Vec<String>,
    /// Options of its URLs.
    #[serde(default)]
    pub options: Vec<PluginOption>,
    /// Features of the host that the plugin needs.
    #[serde(default)]
    pub requires: Vec<String>,
    /// A URL to check the plugin with; may be empty. `{folder}` stands for a folder that exists for the check alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub check: String,
    /// Version of the ABI, `major.minor`.
    pub abi: String,
    /// Version of the ABI that the host must have; by default that of the plugin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub needs: String,
    /// Fingerprint of the boundary, of a plugin in Rust.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// The form in which the plugin is exported.
    #[serde(default, skip_serializing_if = "Door::is_rust")]
    pub door: Door,
    /// Version of `pactio-sdk` that it was built with.
    #[serde(default)]
    pub sdk: String,
    /// Compiler that it was built with.
    #[serde(default)]
    pub rustc: String,
    /// Target that it was built for.
    #[serde(default)]
    pub target: String,
    /// The effect of a panic in the plugin: `unwind` or `abort`.
    #[serde(default)]
    pub panic: String,
}

/// The form in which a plugin is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Door {
    /// Objects of the sdk.
    #[default]
    Rust,
    /// Tables of `pactio/plugin.h`, for C and other languages.
    C,
}

impl Door {
    fn of(text: &str) -> Option<Self> {
        match text {
            "rust" => Some(Self::Rust),
            "c" => Some(Self::C),
            _ => None,
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_rust(&self) -> bool {
        *self == Self::Rust
    }
}

/// With this feature, a backend gets the host itself, to open other devices by their URLs.
pub(crate) const OPEN: &str = "open";

/// Features that a plugin may require of this host.
const FEATURES: &[&str] = &[OPEN];

/// Largest size of a manifest, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;

impl Manifest {
    /// Reads a manifest from the bytes of its section, and checks it against this host. The fields are checked in order, up to
    /// the first that is wrong.
    ///
    /// # Errors
    ///
    /// If a field is wrong; the refusal names the field and the reason.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let damaged =
            |what: &str| Refusal::new(RefusalKind::Damaged, format!("its manifest is damaged: {what}"));
        let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        let form = value
            .get("pactio")
            .and_then(Value::as_u64)
            .ok_or_else(|| damaged("it has no number 'pactio'"))?;
        if form != u64::from(MANIFEST_FORM) {
            let (form, known) = (form.to_string(), MANIFEST_FORM.to_string());
            return Err(
                Refusal::differs(RefusalKind::Damaged, "manifest's form", form, known).with_remedy(REBUILD)
            );
        }
        let text = |field: &str| {
            let text = value.get(field).and_then(Value::as_str);
            text.ok_or_else(|| damaged(&format!("it has no text '{field}'")))
        };
        let needed =
            value.get("needs").map(|needed| needed.as_str().ok_or_else(|| damaged("'needs' is no text")));
        version::check(text("abi")?, needed.transpose()?)?;
        let door = match value.get("door") {
            None => Door::Rust,
            Some(door) => door.as_str().and_then(Door::of).ok_or_else(|| {
                Refusal::new(
                    RefusalKind::MissingFeature,
                    format!("it has the door {door}, which this host does not have"),
                )
                .with_remedy("use it with a newer host")
            })?,
        };
        let own = format!("{FINGERPRINT:016x}");
        if door == Door::Rust && text("fingerprint")? != own {
            return Err(Refusal::differs(RefusalKind::Fingerprint, "fingerprint", text("fingerprint")?, own)
                .with_remedy(format!(
                    "its boundary differs though the major ABI version does not; {REBUILD}"
                )));
        }
        let manifest: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let what = match error.path().to_string().as_str() {
                "." => error.inner().to_string(),
                field => format!("'{field}': {}", error.inner()),
            };
            damaged(&what)
        })?;
        if let Some(missing) = manifest.requires.iter().find(|feature| !FEATURES.contains(&feature.as_str()))
        {
            return Err(Refusal::new(
                RefusalKind::MissingFeature,
                format!("it requires the feature '{missing}', which this host does not have"),
            )
            .with_remedy("use it with a newer host"));
        }
        manifest.check().map_err(|what| damaged(&what))?;
        Ok(manifest)
    }

    /// Checks the values of the fields.
    fn check(&self) -> Result<(), String> {
        if !is_name(&self.id) {
            return Err(format!("the id {:?} is not a name of letters, digits, '-', '_' and '.'", self.id));
        }
        if self.schemes.is_empty() {
            return Err("it has no schemes".to_owned());
        }
        if let Some(scheme) = self.schemes.iter().find(|scheme| !crate::url::is_scheme(scheme)) {
            return Err(format!("{scheme:?} is not a URL scheme"));
        }
        for (index, option) in self.options.iter().enumerate() {
            let name = &option.name;
            if !is_name(name) {
                return Err(format!("{name:?} is not the name of an option"));
            }
            if self.options[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(format!("there are two options '{name}'"));
            }
            if option.kind == OptionKind::Choice && option.choices.is_empty() {
                return Err(format!("the option '{name}' has no choices"));
            }
            for bound in [&option.least, &option.most].into_iter().flatten() {
                if spec::number(option.kind, bound).is_none() {
                    return Err(format!(
                        "the option '{name}' has the bound '{bound}', which is no value of its kind"
                    ));
                }
            }
            if let Some(default) = &option.default {
                spec::check(option, default).map_err(|error| format!("the default of {error}"))?;
            }
        }
        Ok(())
    }

    /// Whether the plugin has this scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.schemes.iter().any(|own| own.eq_ignore_ascii_case(scheme))
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
