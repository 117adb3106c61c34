//! `pactio help SCHEME`: the options of a plugin's URLs.

use std::fmt::Write;

use pactio::{Host, OptionKind, PluginOption};

use super::failure::{Failure, to_stdout};

/// Prints the form and the options of URLs with this scheme.
pub(super) fn run(host: &Host, scheme: &str) -> Result<(), Failure> {
    let scheme = scheme.trim_end_matches(':');
    let plugin = host.plugin_with_scheme(scheme)?;
    let manifest = plugin.manifest();
    let (form, options) = if manifest.filter {
        (format!("| {scheme}"), format!("URL | {scheme}?name=value&name=value"))
    } else {
        (format!("{scheme}:"), format!("{scheme}:TARGET?name=value&name=value"))
    };
    let mut text =
        format!("{form} - {} (plugin '{}' {})\n", manifest.description, manifest.id, manifest.version);
    if manifest.options.is_empty() {
        text.push_str("\nIt has no options.\n");
    } else {
        let _ = write!(text, "\nOptions, as in {options}:\n{}", table(&manifest.options));
    }
    to_stdout(text.as_bytes())
}

/// One line for each option.
pub(super) fn table(options: &[PluginOption]) -> String {
    let forms: Vec<String> =
        options.iter().map(|option| format!("{}={}", option.name, form(option))).collect();
    let width = forms.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (option, form) in options.iter().zip(&forms) {
        let notes = notes(option);
        let notes = if notes.is_empty() { String::new() } else { format!(" [{notes}]") };
        let _ = writeln!(text, "  {form:<width$}  {}{notes}", option.help);
    }
    text
}

/// Notes on an option: its default, its range.
pub(super) fn notes(option: &PluginOption) -> String {
    let mut notes = Vec::new();
    if option.required {
        notes.push("required".to_owned());
    }
    if let Some(default) = &option.default {
        notes.push(format!("default: {default}"));
    }
    match (&option.least, &option.most) {
        (Some(least), Some(most)) => notes.push(format!("{least} to {most}")),
        (Some(least), None) => notes.push(format!("{least} or more")),
        (None, Some(most)) => notes.push(format!("at most {most}")),
        (None, None) => {}
    }
    if option.secret {
        notes.push("secret: env:NAME, file:PATH or fd:NUMBER".to_owned());
    }
    if let Some(instead) = &option.deprecated {
        notes.push(format!("deprecated: {instead}"));
    }
    notes.join("; ")
}

/// The form of a value.
pub(super) fn form(option: &PluginOption) -> String {
    match option.kind {
        OptionKind::Flag => "true|false".to_owned(),
        OptionKind::Integer => "NUMBER".to_owned(),
        OptionKind::Size => "SIZE".to_owned(),
        OptionKind::Duration => "TIME".to_owned(),
        OptionKind::Choice => option.choices.join("|"),
        _ => "TEXT".to_owned(),
    }
}
