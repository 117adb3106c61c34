//! `pactio maps`

use pactio::Host;

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
    let device = arguments.url.open(host)?;
    let mut output = Output::new(arguments.form);
    for region in host.block_on(device.regions())? {
        let (start, end) = (region.range.start, region.range.end);
        let rights = [(region.readable, 'r'), (region.writable, 'w'), (region.executable, 'x')];
        let rights: String = rights.iter().map(|(has, letter)| if *has { *letter } else { '-' }).collect();
        output.line(
            || {
                let line = format!("{start:#014x}-{end:#014x} {rights} {:>12} {}", end - start, region.name);
                line.trim_end().to_owned() + "\n"
            },
            || json!({ "start": start, "end": end, "rights": rights, "name": region.name.to_string() }),
        )?;
    }
    output.flush()
}
