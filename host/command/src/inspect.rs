//! `pactio inspect`

use std::fmt::Write;
use std::path::PathBuf;

use clap::ValueHint;
use pactio::{Candidate, Door, Outcome, Plugin, Refusal};
use serde_json::json;

use super::failure::{Failure, to_stdout};
use super::options;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The library.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Also load it, to see whether that works. This runs its code.
    #[arg(long)]
    load: bool,

    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let candidate = Candidate::of_file(&arguments.file);
    let plugin = match candidate.outcome() {
        Outcome::Found(plugin) => plugin,
        Outcome::Refused(refusal) => return refused(arguments, refusal),
        _ => return Err(Failure::new("the outcome for this file is unknown to this command")),
    };
    if arguments.load
        && let Err(refusal) = plugin.load()
    {
        return refused(arguments, &refusal);
    }
    let text = if arguments.json {
        let file = plugin.place();
        format!(
            "{:#}\n",
            json!({ "file": file, "manifest": plugin.manifest(), "loaded": plugin.is_loaded() })
        )
    } else {
        as_text(plugin)
    };
    to_stdout(text.as_bytes())
}

fn refused(arguments: &Arguments, refusal: &Refusal) -> Result<(), Failure> {
    if arguments.json {
        let report = json!({ "file": arguments.file.to_string_lossy(), "refused": refusal });
        to_stdout(format!("{report:#}\n").as_bytes())?;
    }
    let (file, code) = (arguments.file.display(), refusal.kind().code());
    Err(Failure::refused(format!("'{file}' is refused ({code}): {refusal}")))
}

fn as_text(plugin: &Plugin) -> String {
    let manifest = plugin.manifest();
    let mut text = String::new();
    for (name, value) in [
        ("id", manifest.id.as_str()),
        ("version", &manifest.version),
        ("description", &manifest.description),
        ("license", &manifest.license),
        (if manifest.filter { "filters" } else { "schemes" }, &manifest.schemes.join(" ")),
        ("requires", &manifest.requires.join(" ")),
        ("abi", &manifest.abi),
        ("made for", if manifest.door == Door::C { "plugin.h, in C or another language" } else { "" }),
        ("fingerprint", &manifest.fingerprint),
        ("sdk", &manifest.sdk),
        ("compiler", &manifest.rustc),
        ("target", &manifest.target),
        ("panics", &manifest.panic),
        ("file", &plugin.place()),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12} {value}");
        }
    }
    if plugin.is_loaded() {
        let _ = writeln!(text, "{:<12} yes", "loaded");
    }
    if !manifest.options.is_empty() {
        let _ = write!(text, "options\n{}", options::table(&manifest.options));
    }
    text
}
