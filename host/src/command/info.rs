//! `pactio info`

use pactio::Host;

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let top = host.open(&arguments.url)?;
    let info = top.info();
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let size = info.size().map_or("unknown".to_owned(), |size| format!("{size} bytes"));
    let mut text = format!(
        "url       {}\nsize      {size}\nreadable  {}\nwritable  {}\n",
        top.url(),
        yes_no(info.readable()),
        yes_no(info.writable()),
    );
    // A stack, from the top.
    let mut layer = Some(&top);
    while let Some(device) = layer {
        let (manifest, path) = (device.plugin().manifest(), device.plugin().path().display());
        let word = if std::ptr::eq(device, &top) { "plugin" } else { "on" };
        text.push_str(&format!(
            "{word:<9} {} {} ({})\n{:<9} {path}\n",
            manifest.id, manifest.version, manifest.description, ""
        ));
        layer = device.below();
    }
    to_stdout(text.as_bytes())
}
