//! `pactio info`

use pactio::Host;

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = host.open(&arguments.url)?;
    let info = device.info();
    let plugin = device.plugin();
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let size = info.size().map_or("unknown".to_owned(), |size| format!("{size} bytes"));
    let text = format!(
        "url       {}\nsize      {size}\nreadable  {}\nwritable  {}\nplugin    {} {} ({})\nfile      {}\n",
        device.url(),
        yes_no(info.readable()),
        yes_no(info.writable()),
        plugin.manifest().id,
        plugin.manifest().version,
        plugin.manifest().description,
        plugin.path().display(),
    );
    to_stdout(text.as_bytes())
}
