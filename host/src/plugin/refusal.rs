//! The reasons for which a file is not used as a plugin.

use std::fmt;

use serde::Serialize;

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

/// The step at which a file was refused. Nothing after that step was trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// Users that are not trusted can write the file, or put another file in its place.
    Writable,
    /// The file cannot be read.
    Unreadable,
    /// It is not a shared library of this system and architecture.
    NotALibrary,
    /// It has no manifest, so it is not a pactio plugin.
    NoManifest,
    /// Its manifest or its entry is invalid.
    Damaged,
    /// It was built for another version of the ABI.
    AbiVersion,
    /// It was built for this version of the ABI, but its boundary differs.
    Fingerprint,
    /// It needs a feature that this host does not have.
    MissingFeature,
    /// Another file with the same plugin id was found before.
    Duplicate,
    /// The system could not load it.
    CannotLoad,
    /// The loaded library is not the file that was examined.
    Replaced,
    /// The memory layout of a boundary type differs.
    Layout,
    /// Its code failed while it was set up.
    Setup,
}

impl RefusalKind {
    /// A name that stays the same in all versions, for programs.
    ///
    /// ```
    /// assert_eq!(pactio::RefusalKind::AbiVersion.code(), "abi-version");
    /// ```
    pub fn code(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Unreadable => "unreadable",
            Self::NotALibrary => "not-a-library",
            Self::NoManifest => "no-manifest",
            Self::Damaged => "damaged",
            Self::AbiVersion => "abi-version",
            Self::Fingerprint => "fingerprint",
            Self::MissingFeature => "missing-feature",
            Self::Duplicate => "duplicate",
            Self::CannotLoad => "cannot-load",
            Self::Replaced => "replaced",
            Self::Layout => "layout",
            Self::Setup => "setup",
        }
    }
}

/// The remedy for most differences.
pub(super) const REBUILD: &str = "rebuild it with the pactio-sdk of this host";

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
