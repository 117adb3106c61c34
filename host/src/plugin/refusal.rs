//! The reasons for which a file is not used as a plugin.

use std::fmt;

use serde::Serialize;

use crate::RefusalKind;

/// The reason for which a file was refused, or a plugin could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    #[serde(rename = "code", serialize_with = "code")]
    kind: RefusalKind,
    message: String,
    /// The wrong value, where one value can be named.
    #[serde(flatten)]
    difference: Option<Difference>,
    remedy: Option<String>,
}

/// A value that differs from the required value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The name of the value that differs, such as `ABI version` or `fingerprint`.
    pub field: &'static str,
    /// The value that was found.
    pub found: String,
    /// The required value.
    pub expected: String,
}

fn code<S: serde::Serializer>(kind: &RefusalKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.code())
}

/// The remedy for most differences.
pub(super) const REBUILD: &str = "rebuild it with the pactio-sdk or the plugin.h of this host";

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), difference: None, remedy: None }
    }

    /// A refusal for a field that has another value than the required one.
    pub(super) fn differs(
        kind: RefusalKind,
        field: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let difference = Difference { field, found: found.into(), expected: expected.into() };
        let message = format!("its {field} is {}, but must be {}", difference.found, difference.expected);
        Self { kind, message, difference: Some(difference), remedy: None }
    }

    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// The step at which the file was refused.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The wrong value, where one can be named.
    pub fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, ": {remedy}")?;
        }
        Ok(())
    }
}
