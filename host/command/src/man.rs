//! `pactio man`: manual pages, from the same source as the help.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::roff::{Roff, bold, italic, roman};
use pactio::{Host, Manifest};

use super::failure::Failure;
use super::options::{form, notes};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Folder of the pages; man1 and man7 in it are made.
    folder: PathBuf,
}

/// Writes a page for each subcommand, and one for each plugin that is found.
pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    write(host, arguments).map_err(|error| {
        Failure::new(format!("cannot write manual pages to '{}': {error}", arguments.folder.display()))
    })
}

fn write(host: &Host, arguments: &Arguments) -> io::Result<()> {
    let [commands, plugins] = ["man1", "man7"].map(|name| arguments.folder.join(name));
    let mut command = super::Arguments::command();
    command.build();
    fs::create_dir_all(&commands)?;
    write_command(&commands, command)?;
    fs::create_dir_all(&plugins)?;
    for plugin in host.plugins() {
        let manifest = plugin.manifest();
        replace(&plugins, &format!("pactio-{}.7", manifest.id), page(manifest).render().as_bytes())?;
    }
    Ok(())
}

/// Writes the page of a command, and those of its subcommands.
fn write_command(folder: &Path, command: clap::Command) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_command(folder, subcommand.clone())?;
    }
    let (man, mut text) = (clap_mangen::Man::new(command), Vec::new());
    man.render(&mut text)?;
    replace(folder, &man.get_filename(), &text)
}

/// Writes a file. A page that is there already stays until the new one is complete.
fn replace(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    file.write_all(text)?;
    file.persist(folder.join(name))?;
    Ok(())
}

/// The page of a plugin.
fn page(manifest: &Manifest) -> Roff {
    let name = format!("pactio-{}", manifest.id);
    let mut page = Roff::new();
    let version = format!("{} {}", manifest.id, manifest.version);
    page.control("TH", [name.as_str(), "7", "", version.as_str(), "Plugins of pactio"]);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {}", manifest.description))]);
    page.control("SH", ["SYNOPSIS"]);
    for scheme in &manifest.schemes {
        let values = if manifest.options.is_empty() { "" } else { "?NAME=VALUE&NAME=VALUE" };
        let url = match manifest.filter {
            true => [italic("URL"), roman(" | "), bold(scheme.as_str()), roman(values)],
            false => [bold(format!("{scheme}:")), italic("TARGET"), roman(values), roman("")],
        };
        page.text(url).control("br", []);
    }
    page.control("SH", ["OPTIONS"]);
    if manifest.options.is_empty() {
        page.text([roman("It has no options.")]);
    }
    for option in &manifest.options {
        let notes = notes(option);
        page.control("TP", []).text([bold(format!("{}=", option.name)), italic(form(option))]);
        page.text([
            roman(option.help.as_str()),
            roman(if notes.is_empty() { String::new() } else { format!(" [{notes}]") }),
        ]);
    }
    page.control("SH", ["SEE ALSO"]).text([
        bold("pactio"),
        roman("(1), "),
        bold("pactio-check"),
        roman("(1)"),
    ]);
    page
}
