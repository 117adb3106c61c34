//! `pactio why`

use pactio::{Capability, Host, OpenOptions};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::output::{Form, Output};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The mount: a URL such as mount:game.toml, or a file of sources.
    mounts: GivenUrl,

    /// A name in it: the names on the way joined with '/'.
    name: String,

    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    // An argument that is no URL is the path of a file.
    let given = arguments.mounts.secret_text();
    let device = match given.parse::<pactio::Url>() {
        Ok(_) => arguments.mounts.open(host)?,
        Err(_) => host.open_url(&pactio::Url::new("mount", given)?, OpenOptions::new().read(true))?,
    };
    if !device.capabilities().has(Capability::PROVENANCE) {
        return Err(Failure::new(format!("'{}' is not made of sources that hide each other", device.url()))
            .with_hint("name a mount, such as mount:game.toml"));
    }
    let name = arguments.name.trim_matches('/');
    let origins = host.block_on(device.provenance(name))?;
    let (mut output, mut hidden_by) = (Output::new(arguments.form), None);
    for origin in &origins {
        if let Some(reason) = &origin.absent {
            output.line(
                || format!("{:<16} priority {:<6} is left out: {reason}\n", origin.source, origin.priority),
                || json!({ "source": origin.source, "priority": origin.priority, "absent": reason }),
            )?;
            continue;
        }
        let size = match origin.stat.size {
            _ if origin.stat.is_folder() => "a folder".to_owned(),
            Some(size) => format!("{size} bytes"),
            None => "size unknown".to_owned(),
        };
        let how = match hidden_by {
            None => "serves it".to_owned(),
            // The folders of all sources are shown as one.
            Some((_, true)) if origin.stat.is_folder() => "adds to it".to_owned(),
            Some((by, _)) => format!("hidden by '{by}'"),
        };
        output.line(
            || format!("{:<16} priority {:<6} {size:<16} {how}\n", origin.source, origin.priority),
            || {
                json!({
                    "source": origin.source,
                    "priority": origin.priority,
                    "size": origin.stat.size,
                    "folder": origin.stat.is_folder(),
                    "how": how,
                })
            },
        )?;
        hidden_by.get_or_insert((origin.source.as_str(), origin.stat.is_folder()));
    }
    output.flush()?;
    if hidden_by.is_none() {
        return Err(Failure::new(format!("no source of '{}' that is there has '{name}'", device.url())));
    }
    Ok(())
}
