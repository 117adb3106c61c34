//! The output of `--stats` at the end.

use std::time::Duration;

use pactio::{Figure, Host, Unit};

/// Prints the statistics to standard error, since standard output is for the data.
pub(super) fn print(host: &Host) {
    for layer in host.statistics() {
        eprintln!("{} (plugin '{}')", layer.url, layer.plugin);
        for figure in layer.counted.iter().chain(&layer.of_plugin) {
            eprintln!("  {:<18} {}", figure.name, value(figure));
        }
    }
}

fn value(figure: &Figure) -> String {
    match figure.unit {
        Unit::Bytes => indicatif::BinaryBytes(figure.value).to_string(),
        Unit::Nanoseconds => format!("{:.1?}", Duration::from_nanos(figure.value)),
        _ => figure.value.to_string(),
    }
}
