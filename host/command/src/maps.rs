//! `pactio maps`

use pactio::Host;

use serde_json::{Value, json};

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
    let device = arguments.url.open(host)?;
    let mut output = Output::new(arguments.form);
    for region in host.block_on(device.regions())? {
        let (start, end) = (region.range.start, region.range.end);
        let rights = [(region.readable, 'r'), (region.writable, 'w'), (region.executable, 'x')];
        let rights: String = rights.iter().map(|(has, letter)| if *has { *letter } else { '-' }).collect();
        let offset = region.file_offset.filter(|offset| *offset > 0);
        output.line(
            || {
                let offset = offset.map(|offset| format!(" +{offset:#x}")).unwrap_or_default();
                let line =
                    format!("{start:#014x}-{end:#014x} {rights} {:>12} {}{offset}", end - start, region.name);
                line.trim_end().to_owned() + "\n"
            },
            || {
                let mut line =
                    json!({ "start": start, "end": end, "rights": rights, "name": region.name.to_string() });
                let mut add = |key: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        line[key] = value;
                    }
                };
                add("has_bytes", Some(region.has_bytes().into()));
                add("shared", region.shared.map(Value::from));
                add("file_offset", region.file_offset.map(Value::from));
                add("device", region.file.map(|(device, _)| device.into()));
                add("inode", region.file.map(|(_, inode)| inode.into()));
                line
            },
        )?;
    }
    output.flush()
}
