//! `pactio watch`

use pactio::{ChangeKind, Host};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::output::{Form, Output};
use super::standard::say;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A device that is a tree, such as a folder or a part of a store.
    url: GivenUrl,

    /// End after this many changes.
    #[arg(short = 'n', long, value_name = "CHANGES")]
    count: Option<u64>,

    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    let mut output = Output::new(arguments.form);
    let mut changes = host.block_on(device.watch())?;
    // From here on, no change is missed.
    say(format_args!("watching {}", device.url()));
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        for change in host.block_on(changes.next())?.iter().take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            left -= 1;
            let (kind, name) = (change.kind.text(), change.name.to_string());
            // No name in a tree is a dot.
            let shown = if name.is_empty() { "." } else { &name };
            output.line(
                || match change.kind {
                    ChangeKind::Missed => "missed: any name may have changed\n".to_owned(),
                    _ => format!("{kind} {shown}\n"),
                },
                || json!({ "change": kind, "name": name }),
            )?;
        }
        output.flush()?;
    }
    Ok(())
}
