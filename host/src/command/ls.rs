//! `pactio ls`

use pactio::Host;

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,

    /// A folder in it: names joined with '/' [default: its root].
    #[arg(default_value = "", hide_default_value = true)]
    folder: String,

    /// Also show sizes.
    #[arg(short, long)]
    long: bool,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = host.open(&arguments.url)?;
    let entries = host.block_on(device.list(arguments.folder.trim_matches('/')))?;
    let mut text = String::new();
    for entry in entries {
        if arguments.long {
            let size = entry.size.map_or("-".to_owned(), |size| size.to_string());
            text.push_str(&format!("{size:>14} "));
        }
        text.push_str(&entry.name);
        text.push_str(if entry.is_folder { "/\n" } else { "\n" });
    }
    to_stdout(text.as_bytes())
}
