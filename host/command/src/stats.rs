//! The output of `--stats` at the end.

use std::time::Duration;

use pactio::{Health, Host, Metric, RequestInFlight, Resources, Unit};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

use super::standard::say;

/// Prints the statistics to standard error, since standard output is for the data.
pub(super) fn print(host: &Host) {
    for layer in host.statistics() {
        say(format_args!("{} (plugin '{}')", layer.url, layer.plugin));
        for figure in layer.counted.iter().chain(&layer.of_plugin) {
            say(format_args!("  {:<18} {}", figure.name, value(figure)));
        }
    }
}

/// Prints the requests in flight to standard error whenever the process gets SIGUSR1, while the host exists.
pub(super) fn print_on_signal(host: &Host) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGUSR1])?;
    let host = host.clone();
    std::thread::Builder::new().name("pactio-usr1".to_owned()).spawn(move || {
        for _ in signals.forever() {
            let all = host.in_flight();
            say(format_args!("{} requests in flight", all.len()));
            for RequestInFlight { url, plugin, kind, len, age, health, .. } in all {
                let state = match health {
                    Some(Health::Alive) => "".to_owned(),
                    Some(Health::Hangs { call, time }) => format!(", which hangs in {call} for {time:.1?}"),
                    Some(health) => format!(", which is {}", format!("{health:?}").to_lowercase()),
                    None => ", which is closed".to_owned(),
                };
                let kind = format!("{kind:?}").to_lowercase();
                say(format_args!("  {kind} of {len} bytes since {age:.1?} at {url} (plugin '{plugin}'){state}"));
            }
            let Resources { threads, lost_threads: lost, helper_threads: helpers, waiting_calls, .. } = Resources::now();
            say(format_args!(
                "{threads} threads, {} of at most {} hang; {} of {} helpers, {waiting_calls} calls wait for one",
                lost.now, lost.most, helpers.now, helpers.most
            ));
        }
    })?;
    Ok(())
}

fn value(figure: &Metric) -> String {
    match figure.unit {
        Unit::Bytes => indicatif::BinaryBytes(figure.value).to_string(),
        Unit::Nanoseconds => format!("{:.1?}", Duration::from_nanos(figure.value)),
        _ => figure.value.to_string(),
    }
}
