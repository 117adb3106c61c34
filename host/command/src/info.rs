//! `pactio info`

use pactio::{Capability, Device, Host, Limits};

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
        "url       {}\nsize      {size}\nreadable  {}\nwritable  {}\ncan       {}\nlimits    {}\n",
        top.url(),
        yes_no(info.readable()),
        yes_no(info.writable()),
        can(&top),
        limits(&top.capabilities().limits()),
    );
    // A stack, from the top.
    let mut layer = Some(&top);
    while let Some(device) = layer {
        let manifest = device.plugin().manifest();
        let path = device.plugin().place();
        let word = if std::ptr::eq(device, &top) { "plugin" } else { "on" };
        text.push_str(&format!(
            "{word:<9} {} {} ({})\n{:<9} {path}\n",
            manifest.id, manifest.version, manifest.description, ""
        ));
        layer = device.below();
    }
    to_stdout(text.as_bytes())
}

/// The capabilities of a device beyond reading and writing.
fn can(device: &Device) -> String {
    let can = device.capabilities();
    let words: Vec<&str> =
        can.iter().filter(|one| *one != Capability::LIMITS).map(|one| one.name()).collect();
    if words.is_empty() { "nothing else".to_owned() } else { words.join(", ") }
}

/// The requests that the plugin of a device takes; the host makes such requests of all others.
fn limits(limits: &Limits) -> String {
    let mut words = Vec::new();
    if limits.alignment() > 1 {
        words.push(format!("aligned to {} bytes", limits.alignment()));
    }
    if let Some(largest) = limits.largest() {
        words.push(format!("at most {largest} bytes at once"));
    }
    if let Some(count) = limits.in_flight() {
        words.push(format!("wants {count} requests in flight"));
    }
    if limits.zero_copy() {
        words.push("zero copy".to_owned());
    }
    if limits.memory_alignment() > 1 {
        words.push(format!("with memory aligned to {} bytes", limits.memory_alignment()));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
