//! `pactio rm`, `pactio mv` and `pactio mkdir`

use pactio::{Capability, Device, Host, Name, OpenOptions, RenameMode};

use super::failure::Failure;
use super::given::GivenUrl;
use super::ls::name_of;

#[derive(clap::Args)]
pub(super) struct Remove {
    /// The tree, such as file:folder or s3:bucket/folder/.
    url: GivenUrl,
    /// Names in it, as `pactio ls` prints them: files, and folders without names in them. A plain '%' is written %25.
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct Rename {
    /// The tree, such as file:folder or s3:bucket/folder/.
    url: GivenUrl,
    /// The name in it, as `pactio ls` prints it. A plain '%' is written %25.
    from: String,
    /// Its whole new name.
    to: String,
    /// Replace an existing file or object of the new name.
    #[arg(long)]
    replace: bool,
}

#[derive(clap::Args)]
pub(super) struct CreateFolders {
    /// The tree, such as file:folder.
    url: GivenUrl,
    /// Names of folders in it. A plain '%' is written %25.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn remove(host: &Host, arguments: &Remove) -> Result<(), Failure> {
    let names = all(&arguments.names)?;
    let tree = open(host, &arguments.url)?;
    each(&names, |given| {
        given.check(&tree)?;
        host.block_on(tree.remove(&given.name)).map_err(Stop::from)
    })
}

pub(super) fn rename(host: &Host, arguments: &Rename) -> Result<(), Failure> {
    let (from, to) = (Given::new(&arguments.from)?, Given::new(&arguments.to)?);
    if to.is_folder && !from.is_folder {
        let last = from.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let text = format!(
            "'{}' ends with '/', but '{}' does not: the new name is given as a whole",
            arguments.to, arguments.from
        );
        let hint = format!("to put it into that folder, write '{}{}'", arguments.to, Name::show(last));
        return Err(Failure::usage(text).with_hint(hint));
    }
    let tree = open(host, &arguments.url)?;
    from.check(&tree).map_err(|stop| stop.failure)?;
    let mode = if arguments.replace { RenameMode::Replace } else { RenameMode::Keep };
    host.block_on(tree.rename(&from.name, &to.name, mode))?;
    Ok(())
}

pub(super) fn create_folders(host: &Host, arguments: &CreateFolders) -> Result<(), Failure> {
    let names = all(&arguments.names)?;
    let tree = open(host, &arguments.url)?;
    each(&names, |given| host.block_on(tree.create_folder(&given.name)).map_err(Stop::from))
}

fn open(host: &Host, url: &GivenUrl) -> Result<Device, Failure> {
    Ok(url.open_with(host, OpenOptions::new().read(true).write(true))?)
}

/// A name that was given, in its text form.
struct Given {
    name: Name,
    /// A slash at its end says that it is a folder.
    is_folder: bool,
}

impl Given {
    /// Takes only the form that `ls` prints, so that no other name is removed by mistake.
    fn new(text: &str) -> Result<Self, Failure> {
        if text.starts_with('/') {
            let text = format!("'{text}' begins with '/', but names are those in the tree");
            return Err(Failure::usage(text).with_hint("leave the '/' out"));
        }
        let (name, shown) = (name_of(text)?, text.trim_end_matches('/'));
        let canonical = Name::show(&name).to_string();
        if canonical != shown {
            let literal = Name::show(shown.as_bytes());
            let text = format!("'{shown}' is no name as `pactio ls` prints it");
            let hint = format!(
                "write '{canonical}' for the decoded name, or '{literal}' for a name with these characters"
            );
            return Err(Failure::usage(text).with_hint(hint));
        }
        Ok(Self { name, is_folder: text.ends_with('/') })
    }

    /// Refuses a file whose name was given with a slash.
    fn check(&self, tree: &Device) -> Result<(), Stop> {
        if !self.is_folder || tree.open(&self.name)?.capabilities().has(Capability::OPEN) {
            return Ok(());
        }
        let failure = Failure::new(format!("'{}' is no folder", Name::show(&self.name)));
        Err(Stop { failure: failure.with_hint("leave the '/' at its end out"), is_temporary: false })
    }
}

/// All names, before the first of them is changed.
fn all(names: &[String]) -> Result<Vec<Given>, Failure> {
    names.iter().map(|text| Given::new(text)).collect()
}

/// The failure for one name.
struct Stop {
    failure: Failure,
    is_temporary: bool,
}

impl From<pactio::Error> for Stop {
    fn from(error: pactio::Error) -> Self {
        Self { is_temporary: error.is_temporary(), failure: error.into() }
    }
}

/// Changes each name. A failure that concerns one name does not stop the others; one that may be over soon, such as that of a
/// server that does not answer, does.
fn each(names: &[Given], mut change: impl FnMut(&Given) -> Result<(), Stop>) -> Result<(), Failure> {
    let (mut failed, mut done) = (0, 0);
    for given in names {
        let Err(stop) = change(given) else {
            done += 1;
            continue;
        };
        if names.len() == 1 {
            return Err(stop.failure);
        }
        stop.failure.report();
        failed += 1;
        if stop.is_temporary {
            break;
        }
    }
    let text = match names.len() - done - failed {
        _ if failed == 0 => return Ok(()),
        0 => format!("{failed} of {} names failed", names.len()),
        left => format!("{failed} of {} names failed, {left} were not tried", names.len()),
    };
    Err(Failure::new(text))
}
