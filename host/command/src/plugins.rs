//! `pactio plugins`

use std::fmt::Write;

use pactio::{Host, Outcome, RefusalKind};
use serde_json::json;

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Also list libraries that are no pactio plugins.
    #[arg(long)]
    all: bool,

    /// As JSON: a list with one object per file, with its manifest or the reason why it was refused, and per folder that cannot
    /// be read.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let text = if arguments.json { as_json(host, arguments.all) } else { as_text(host, arguments.all) };
    to_stdout(text.as_bytes())
}

fn is_no_plugin(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if refusal.kind() == RefusalKind::NoManifest)
}

fn as_json(host: &Host, all: bool) -> String {
    let candidates = host.candidates();
    let files = candidates.iter().filter(|candidate| all || !is_no_plugin(candidate.outcome()));
    let folders = host.unreadable_folders().into_iter().map(
        |(folder, error)| json!({ "folder": folder.to_string_lossy(), "unreadable": error.to_string() }),
    );
    let list = files
        .map(|candidate| {
            let path = candidate.path().to_string_lossy();
            match candidate.outcome() {
                Outcome::Found(plugin) => json!({ "file": path, "manifest": plugin.manifest() }),
                Outcome::Refused(refusal) => json!({ "file": path, "refused": refusal }),
                _ => json!({ "file": path }),
            }
        })
        .chain(folders)
        .collect();
    format!("{:#}\n", serde_json::Value::Array(list))
}

fn as_text(host: &Host, all: bool) -> String {
    let mut text = String::new();
    for plugin in host.plugins() {
        let manifest = plugin.manifest();
        let schemes: Vec<String> = manifest
            .schemes
            .iter()
            .map(|scheme| if manifest.filter { format!("| {scheme}") } else { format!("{scheme}:") })
            .collect();
        let _ = writeln!(
            text,
            "{:<12} {:<8} {} - {}",
            schemes.join(" "),
            manifest.version,
            manifest.id,
            manifest.description
        );
        let _ = writeln!(text, "{:<12} {}", "", plugin.place());
    }
    if text.is_empty() {
        let _ = writeln!(text, "no plugin was found; `pactio info x:` lists the folders that are searched");
    }
    for (folder, error) in host.unreadable_folders() {
        let _ = writeln!(text, "cannot read folder '{}': {error}", folder.display());
    }
    let mut others = 0;
    for candidate in &host.candidates() {
        let Some(refusal) = candidate.refusal() else { continue };
        if is_no_plugin(candidate.outcome()) && !all {
            others += 1;
        } else {
            let _ = writeln!(
                text,
                "{:<12} {}\n{:<12} {}: {refusal}",
                "refused",
                candidate.path().display(),
                "",
                refusal.kind().code()
            );
        }
    }
    if others > 0 {
        let _ = writeln!(text, "{others} other libraries are no pactio plugins (--all lists them)");
    }
    text
}
