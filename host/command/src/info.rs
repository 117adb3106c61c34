//! `pactio info`

use std::fmt::Write;

use pactio::{Capability, Code, Device, Host, Limits, OpenOptions};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::output::{Form, Output};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: GivenUrl,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let top = arguments.url.open(host)?;
    let stat = host.block_on(top.stat())?;
    let (info, writing) = (top.info(), writing(host, &arguments.url));
    let mut layers = Vec::new();
    // A stack, from the top.
    let mut layer = Some(&top);
    while let Some(device) = layer {
        layers.push(device);
        layer = device.below();
    }
    let text = || {
        let size = info.size().map_or("unknown".to_owned(), |size| format!("{size} bytes"));
        let mut text = format!("url       {}\nsize      {size}\n", top.url());
        if let Some(kind) = stat.kind {
            let _ = writeln!(text, "kind      {kind}");
        }
        if let Some(mode) = stat.mode {
            let _ = writeln!(text, "mode      {mode:04o}");
        }
        if let Some(kind) = &stat.content_type {
            let _ = writeln!(text, "type      {kind}");
        }
        if let Some(version) = &stat.version {
            let _ = writeln!(text, "version   {version}");
        }
        let _ = write!(
            text,
            "readable  {}\nwritable  {writing}\ncan       {}\nlimits    {}\n",
            if info.readable() { "yes" } else { "no" },
            can(&top),
            limits(&top.capabilities().limits()),
        );
        for (index, device) in layers.iter().enumerate() {
            let (manifest, path) = (device.plugin().manifest(), device.plugin().place());
            let word = if index == 0 { "plugin" } else { "on" };
            let _ = writeln!(
                text,
                "{word:<9} {} {} ({})\n{:<9} {path}",
                manifest.id, manifest.version, manifest.description, ""
            );
        }
        text
    };
    let json = || {
        let layer = |device: &&Device| {
            let manifest = device.plugin().manifest();
            json!({ "plugin": manifest.id, "version": manifest.version, "file": device.plugin().place() })
        };
        let limits = top.capabilities().limits();
        json!({
            "url": top.url(),
            "size": info.size(),
            "kind": stat.kind.map(|kind| kind.text()),
            "mode": stat.mode,
            "version": stat.version,
            "content_type": stat.content_type,
            "readable": info.readable(),
            "writable": writing,
            "can": top.capabilities().iter().map(|one| one.name()).collect::<Vec<_>>(),
            "alignment": limits.alignment(),
            "largest": limits.largest(),
            "in_flight": limits.in_flight(),
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        })
    };
    let mut output = Output::new(arguments.form);
    output.line(text, json)?;
    output.flush()
}

/// Whether the device can be opened to be written. Nothing is made, emptied or written.
fn writing(host: &Host, url: &GivenUrl) -> &'static str {
    let writes = |options| url.open_with(host, options).map(|device| device.info().writable());
    match writes(OpenOptions::new().write(true)) {
        Ok(true) => "yes",
        Ok(false) => "no",
        // An object is not written in place.
        Err(error) if error.code() == Some(Code::UNSUPPORTED) => {
            match writes(OpenOptions::new().replace(true)) {
                Ok(true) => "as a whole",
                _ => "no",
            }
        }
        Err(_) => "no",
    }
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
