//! `pactio ls`

use std::time::{SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use pactio::{Device, Entry, Host, Name, Url};
use serde_json::json;

use super::failure::Failure;
use super::given::GivenUrl;
use super::output::{Form, Output};
use super::standard::say;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: GivenUrl,

    /// A folder in it: names joined with '/' [default: its root].
    #[arg(default_value = "", hide_default_value = true)]
    folder: String,

    /// Also show sizes and times of the last change (UTC; @SECONDS since 1970 for years before 1970 and after 9999).
    #[arg(short, long)]
    long: bool,

    /// Also list the content of folders, with all names on the way.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Print the URL of each entry, to be used as an argument; secrets are hidden.
    #[arg(long = "url")]
    url_of_each: bool,

    /// Print the entries that the tree hides, and why, such as names of an archive that would lie outside of it.
    #[arg(long, conflicts_with_all = ["long", "recursive", "url_of_each", "folder"])]
    refused: bool,

    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    let mut output = Output::new(arguments.form);
    if arguments.refused {
        for hidden in host.block_on(device.refused())? {
            let name = hidden.name.to_string();
            output.line(
                || format!("{name}: {}\n", hidden.reason),
                || json!({ "name": name, "refused": hidden.reason }),
            )?;
        }
        return output.flush();
    }
    let folder = name_of(&arguments.folder)?;
    // The text of a device's URL has no secrets.
    let tree: Option<Url> = if arguments.url_of_each { Some(device.url().parse()?) } else { None };
    let mut show = |path: &[u8], entry: &Entry| {
        let full = || joined(&folder, path);
        output.line(
            || {
                let size = entry.size().map_or("-".to_owned(), |size| size.to_string());
                let time = entry.stat.modified.map_or("-".to_owned(), shown_time);
                let size = if arguments.long { format!("{size:>14} {time:>20} ") } else { String::new() };
                // The text form of names: a terminal gets no control characters, and no byte is lost.
                match &tree {
                    Some(tree) => format!("{size}{}\n", tree.clone().with_name(full()).reveal()),
                    None => {
                        format!("{size}{}{}\n", Name::show(path), if entry.is_folder() { "/" } else { "" })
                    }
                }
            },
            || {
                let kind = entry.stat.kind.map(|kind| kind.text());
                let modified = entry.stat.modified.map(shown_time);
                let name = Name::show(path).to_string();
                let mut line =
                    json!({ "name": name, "kind": kind, "size": entry.size(), "modified": modified });
                if let Some(tree) = &tree {
                    line["url"] = tree.clone().with_name(full()).reveal().into();
                }
                line
            },
        )
    };
    if arguments.recursive {
        let mut closed = 0;
        walk(host, &device, &folder, |path, step| {
            if let Step::Closed(_, reason) = &step {
                closed += 1;
                say(format_args!("pactio: {}: {reason}", Name::show(path)));
            }
            show(path, step.entry())
        })?;
        output.flush()?;
        if closed > 0 {
            return Err(Failure::new(format!("the content of {closed} folders is left out")));
        }
        return Ok(());
    } else {
        let mut pages = device.list_pages(&folder);
        while let Some(entries) = host.block_on(pages.next())? {
            entries.iter().try_for_each(|entry| show(&entry.name, entry))?;
        }
    }
    output.flush()
}

/// The date and time, or the seconds since 1970 for a time that has no such form.
pub(super) fn shown_time(time: SystemTime) -> String {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) if after.as_secs() > LAST_SECOND => format!("@{}", after.as_secs()),
        Ok(_) => format_rfc3339_seconds(time).to_string(),
        // A part of a second is rounded down, as in dates.
        Err(before) => {
            let before = before.duration();
            format!("@-{}", before.as_secs() + u64::from(before.subsec_nanos() > 0))
        }
    }
}

/// The end of the year 9999, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// The bytes of a name, or a path of names, that was given in its text form.
pub(super) fn name_of(text: &str) -> Result<Name, Failure> {
    Name::from_text(text.trim_matches('/')).ok_or_else(|| {
        Failure::usage(format!("the '%' in '{text}' does not begin an escape such as %20"))
            .with_hint("write %25 for a plain '%'")
    })
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// A step of a [`walk`].
pub(super) enum Step<'a> {
    /// An entry. Its content follows, if it is a folder.
    Entry(&'a Entry),
    /// A folder without its content, which is left out for this reason.
    Closed(&'a Entry, String),
}

impl Step<'_> {
    pub(super) fn entry(&self) -> &Entry {
        let (Self::Entry(entry) | Self::Closed(entry, _)) = self;
        entry
    }
}

/// Calls `visit` with all entries of a folder and of the folders in it, each with its path from the folder on, and each folder
/// before its content.
pub(super) fn walk(
    host: &Host,
    device: &Device,
    folder: &[u8],
    mut visit: impl FnMut(&[u8], Step<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let root = if folder.is_empty() { host.block_on(device.stat())?.identity } else { None };
    // The lists that are under way, the length of the path that each of them belongs to, and the identity of its folder.
    let mut under_way = vec![(host.block_on(device.list(folder))?.into_iter(), 0, root)];
    let mut path: Vec<u8> = Vec::new();
    while let Some((entries, len, _)) = under_way.last_mut() {
        let Some(entry) = entries.next() else {
            under_way.pop();
            continue;
        };
        path.truncate(*len);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        if !entry.is_folder() {
            visit(&path, Step::Entry(&entry))?;
            continue;
        }
        let identity = &entry.stat.identity;
        if identity.is_some() && under_way.iter().any(|(.., of_folder)| of_folder == identity) {
            visit(&path, Step::Closed(&entry, "it is a link back to a folder that it is in".to_owned()))?;
            continue;
        }
        match host.block_on(device.list(joined(folder, &path))) {
            Ok(inner) => {
                visit(&path, Step::Entry(&entry))?;
                under_way.push((inner.into_iter(), path.len(), entry.stat.identity));
            }
            Err(error) => visit(&path, Step::Closed(&entry, error.to_string()))?,
        }
    }
    Ok(())
}
