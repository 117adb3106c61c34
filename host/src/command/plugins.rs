//! `pactio plugins`

use std::fmt::Write;

use pactio::{Host, RefusalKind};

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Also list libraries that are no pactio plugins.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let mut text = String::new();
    for plugin in host.plugins() {
        let info = plugin.info();
        let schemes: Vec<String> = info.schemes.iter().map(|scheme| format!("{scheme}:")).collect();
        let _ = writeln!(
            text,
            "{:<12} {:<8} {} - {}",
            schemes.join(" "),
            info.version,
            info.id,
            info.description
        );
        let _ = writeln!(text, "{:<12} {}", "", plugin.path().display());
    }
    if text.is_empty() {
        let _ = writeln!(text, "no plugin is loaded; `pactio info x:` lists the folders that are searched");
    }
    let mut others = 0;
    for candidate in host.candidates() {
        let Some(refusal) = candidate.refusal() else { continue };
        if refusal.kind() == RefusalKind::NoEntry && !arguments.all {
            others += 1;
        } else {
            let _ = writeln!(text, "{:<12} {}\n{:<12} {refusal}", "refused", candidate.path().display(), "");
        }
    }
    if others > 0 {
        let _ = writeln!(text, "{others} other libraries are no pactio plugins (--all lists them)");
    }
    to_stdout(text.as_bytes())
}
