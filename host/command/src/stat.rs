//! `pactio stat`

use std::collections::VecDeque;
use std::fmt::Write as _;

use pactio::{Host, OpenOptions, Stat};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::given::GivenUrl;
use super::ls::shown_time;
use super::output::{Form, Output};

/// Number of devices that are opened at once.
const AT_ONCE: usize = 16;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The devices, or names in trees: URL | /NAME.
    #[arg(required = true)]
    urls: Vec<GivenUrl>,

    #[command(flatten)]
    form: Form,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let (mut output, mut failed) = (Output::new(arguments.form), None);
    // Some are opened ahead. Each open device may need a descriptor.
    let mut openings = VecDeque::new();
    let mut urls = arguments.urls.iter().map(|url| url.opening(host, OpenOptions::new().read(true)));
    openings.extend(urls.by_ref().take(AT_ONCE - 1));
    while let Some(opening) = openings.pop_front() {
        openings.extend(urls.next());
        let known = host.block_on(async {
            let device = opening.await?;
            Ok::<_, pactio::Error>((device.url().to_owned(), device.stat().await?))
        });
        match known {
            Ok((url, stat)) => {
                let fields = fields(&stat);
                output.line(|| text(&url, &stat, &fields), || json_of(&url, &stat, &fields))?;
                output.flush()?;
            }
            Err(error) => failed = Some(Failure::from(error).reported()),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The known fields besides the user's, in words.
fn fields(stat: &Stat) -> Vec<(&'static str, String)> {
    let all = [
        ("kind", stat.kind.map(|kind| kind.to_string())),
        ("size", stat.size.map(|size| size.to_string())),
        ("modified", stat.modified.map(shown_time)),
        ("changed", stat.changed.map(shown_time)),
        ("accessed", stat.accessed.map(shown_time)),
        ("created", stat.created.map(shown_time)),
        ("mode", stat.mode.map(|mode| format!("{mode:04o}"))),
        ("version", stat.version.clone()),
        ("content_type", stat.content_type.clone()),
        ("identity", stat.identity.as_ref().map(ToString::to_string)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn text(url: &str, stat: &Stat, fields: &[(&str, String)]) -> String {
    let mut text = format!("{url}\n");
    // A store may hold any characters; a terminal gets none that control it.
    for (name, value) in fields {
        let _ = writeln!(text, "  {name:<12} {}", value.escape_debug());
    }
    for (key, value) in &stat.metadata {
        let _ = writeln!(text, "  {:<12} {}", format!("meta {}", key.escape_debug()), value.escape_debug());
    }
    text
}

fn json_of(url: &str, stat: &Stat, fields: &[(&str, String)]) -> Value {
    let mut all: Map<String, Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    all.insert("url".to_owned(), json!(url));
    all.insert("size".to_owned(), json!(stat.size));
    all.insert("mode".to_owned(), json!(stat.mode));
    let own = stat.metadata.iter().map(|(key, value)| (key.clone(), json!(value)));
    all.insert("metadata".to_owned(), Value::Object(own.collect()));
    Value::Object(all)
}
