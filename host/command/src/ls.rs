//! `pactio ls`

use pactio::{Device, Entry, Host, Name};

use super::failure::{Failure, to_stdout};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,

    /// A folder in it: names joined with '/' [default: its root].
    #[arg(default_value = "", hide_default_value = true)]
    folder: String,

    /// Also show sizes.
    #[arg(short, long)]
    long: bool,

    /// Also show what is in the folders, with all names on the way.
    #[arg(short = 'R', long)]
    recursive: bool,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = host.open(&arguments.url)?;
    let folder = folder_of(&arguments.folder)?;
    let mut text = String::new();
    if arguments.recursive {
        for (path, entry) in all_below(host, &device, &folder)? {
            show(&mut text, &path, &entry, arguments.long);
        }
    } else {
        for entry in host.block_on(device.list(&folder))? {
            show(&mut text, &entry.name, &entry, arguments.long);
        }
    }
    to_stdout(text.as_bytes())
}

/// The bytes of a folder that was given in the text form of names.
fn folder_of(text: &str) -> Result<Name, Failure> {
    Name::from_text(text.trim_matches('/')).ok_or_else(|| {
        Failure::usage(format!("the '%' in '{text}' does not begin an escape such as %20"))
            .with_hint("write %25 for a plain '%'")
    })
}

fn show(text: &mut String, name: &[u8], entry: &Entry, long: bool) {
    if long {
        let size = entry.size().map_or("-".to_owned(), |size| size.to_string());
        text.push_str(&format!("{size:>14} "));
    }
    // The text form of names: a terminal gets no control characters, and no byte is lost.
    text.push_str(&Name::show(name).to_string());
    text.push_str(if entry.is_folder() { "/\n" } else { "\n" });
}

/// All entries of a folder and of the folders in it with their paths, each folder before its content.
pub(super) fn all_below(
    host: &Host,
    device: &Device,
    folder: &[u8],
) -> Result<Vec<(Vec<u8>, Entry)>, Failure> {
    let path = |folder: &[u8], name: &[u8]| {
        if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
    };
    let list = |folder: &[u8]| -> Result<Vec<(Vec<u8>, Entry)>, Failure> {
        let entries = host.block_on(device.list(folder))?;
        Ok(entries.into_iter().rev().map(|entry| (path(folder, &entry.name), entry)).collect())
    };
    let (mut all, mut todo) = (Vec::new(), list(folder)?);
    while let Some((path, entry)) = todo.pop() {
        // Links may make a circle of folders; no path is longer than systems allow.
        if entry.is_folder() && path.len() < 4096 {
            todo.extend(list(&path)?);
        }
        all.push((path, entry));
    }
    Ok(all)
}
