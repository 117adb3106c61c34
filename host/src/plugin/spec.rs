//! The specification of an option of a plugin's URLs, and the check of a value against it.

use pactio_sdk::{parse_duration, parse_size};
use serde::{Deserialize, Serialize};

/// One option of a plugin's URLs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PluginOption {
    /// Its name.
    pub name: String,
    /// The kind of its value.
    #[serde(rename = "type")]
    pub kind: OptionKind,
    /// One line for people.
    #[serde(default)]
    pub help: String,
    /// The value if the option is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<String>,
    /// The greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<String>,
    /// The words of a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Whether the option must be given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Whether the value is a secret, which is shown nowhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Set if the option should not be used any more; the text says how to proceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
}

/// The kind of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptionKind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer,
    /// A number of bytes.
    Size,
    /// A time.
    Duration,
    /// Any text.
    Text,
    /// One of a few words.
    Choice,
}

/// Shown in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// The word that was probably meant.
pub(crate) fn similar<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let near = |known: &str| strsim::damerau_levenshtein(word, known);
    words
        .into_iter()
        .map(|known| (near(known), known))
        .filter(|(far, _)| *far <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// Checks a value against the specification of its option.
pub(super) fn check(spec: &PluginOption, value: &str) -> Result<(), String> {
    let (name, shown) = (&spec.name, if spec.secret { HIDDEN } else { value });
    let right = match spec.kind {
        OptionKind::Text => true,
        OptionKind::Flag => matches!(value, "true" | "false"),
        OptionKind::Choice => spec.choices.iter().any(|choice| choice == value),
        OptionKind::Integer | OptionKind::Size | OptionKind::Duration => number(spec.kind, value).is_some(),
    };
    if !right {
        let wanted = wanted(spec);
        let meant = similar(value, spec.choices.iter().map(String::as_str));
        let meant = meant.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
        return Err(format!("option '{name}' is '{shown}', but must be {wanted}{meant}"));
    }
    let Some(value) = number(spec.kind, value) else { return Ok(()) };
    let bound = |text: &Option<String>| text.as_deref().and_then(|text| number(spec.kind, text));
    if bound(&spec.least).is_some_and(|least| value < least)
        || bound(&spec.most).is_some_and(|most| value > most)
    {
        return Err(format!("option '{name}' is {shown}, but must be {}", range(spec)));
    }
    Ok(())
}

/// The bounds in words.
pub(crate) fn range(spec: &PluginOption) -> String {
    match (&spec.least, &spec.most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "anything".to_owned(),
    }
}

/// The form of a value of this kind, in words.
fn wanted(spec: &PluginOption) -> String {
    match spec.kind {
        OptionKind::Flag => "true or false".to_owned(),
        OptionKind::Integer => "a whole number".to_owned(),
        OptionKind::Size => "a size such as 4096, 64KiB or 1.5GiB".to_owned(),
        OptionKind::Duration => "a time such as 250ms, 1.5s or 2min".to_owned(),
        OptionKind::Text => "text".to_owned(),
        OptionKind::Choice => format!("one of: {}", spec.choices.join(", ")),
    }
}

/// A value of this kind as a number: the integer, bytes, or nanoseconds.
pub(super) fn number(kind: OptionKind, text: &str) -> Option<i128> {
    match kind {
        OptionKind::Integer => text.parse::<i64>().ok().map(i128::from),
        OptionKind::Size => parse_size(text).map(i128::from),
        OptionKind::Duration => parse_duration(text).and_then(|time| i128::try_from(time.as_nanos()).ok()),
        _ => None,
    }
}
