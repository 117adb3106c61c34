//! `pactio rm`, `pactio mv` and `pactio mkdir`

use pactio::{Device, Host, OpenOptions, RenameMode};

use super::failure::Failure;
use super::given::GivenUrl;
use super::ls::name_of;

#[derive(clap::Args)]
pub(super) struct Remove {
    /// The tree, such as file:folder or s3:bucket/folder/.
    url: GivenUrl,
    /// Names in it: files, and folders without names in them. Names are joined with '/'.
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct Rename {
    /// The tree, such as file:folder or s3:bucket/folder/.
    url: GivenUrl,
    /// The name in it.
    from: String,
    /// Its new name.
    to: String,
    /// Replace an existing file or object of the new name.
    #[arg(long)]
    replace: bool,
}

#[derive(clap::Args)]
pub(super) struct CreateFolders {
    /// The tree, such as file:folder.
    url: GivenUrl,
    /// Names of folders in it.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn remove(host: &Host, arguments: &Remove) -> Result<(), Failure> {
    let tree = open(host, &arguments.url)?;
    for name in &arguments.names {
        host.block_on(tree.remove(name_of(name)?))?;
    }
    Ok(())
}

pub(super) fn rename(host: &Host, arguments: &Rename) -> Result<(), Failure> {
    let tree = open(host, &arguments.url)?;
    let mode = if arguments.replace { RenameMode::Replace } else { RenameMode::Keep };
    host.block_on(tree.rename(name_of(&arguments.from)?, name_of(&arguments.to)?, mode))?;
    Ok(())
}

pub(super) fn create_folders(host: &Host, arguments: &CreateFolders) -> Result<(), Failure> {
    let tree = open(host, &arguments.url)?;
    for name in &arguments.names {
        host.block_on(tree.create_folder(name_of(name)?))?;
    }
    Ok(())
}

fn open(host: &Host, url: &GivenUrl) -> Result<Device, Failure> {
    Ok(url.open_with(host, OpenOptions::new().read(true).write(true))?)
}
