//! Searches of `pactio scan` in the memory of this process, against the libraries that they are built on.

use std::hint::black_box;
use std::time::Instant;

use aho_corasick::AhoCorasick;
use pactio_tests::host;
use regex::bytes::RegexBuilder;

#[allow(dead_code, reason = "the command uses all of it")]
#[path = "../../../host/command/src/pattern.rs"]
mod pattern;

use pattern::{Pattern, Text};

/// The readable memory of this process.
fn memory() -> Vec<u8> {
    let host = host(&["pactio_process"]);
    let device = host.open("process:self").unwrap_or_else(|error| panic!("{error}"));
    let regions = host.block_on(device.regions()).unwrap_or_else(|error| panic!("{error}"));
    let mut all = Vec::new();
    for region in regions.iter().filter(|region| region.has_bytes()) {
        let len = (region.range.end - region.range.start) as usize;
        if let Ok((report, bytes)) = host.block_on(device.read_at(region.range.start, vec![0; len])) {
            report.done_ranges().for_each(|range| all.extend_from_slice(&bytes[range]));
        }
    }
    all
}

fn count(pattern: &Pattern, bytes: &[u8]) -> usize {
    let (mut from, mut count) = (0, 0);
    while from <= bytes.len()
        && let Some(found) = pattern.find(Text { bytes, ends: false }, from)
    {
        from = pattern.next(&found);
        count += 1;
    }
    count
}

/// Prints the speeds, interleaved, and their ratios.
pub(crate) fn patterns(seconds: f64) {
    let memory = memory();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let needles: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            (0..8 + next() % 9).map(|_| 1 + (next() % 255) as u8).filter(|byte| *byte != b'\n').collect()
        })
        .collect();
    let texts = Pattern::texts(&needles.join(&b'\n')).unwrap_or_else(|error| panic!("{error}"));
    let automaton = AhoCorasick::new(&needles).unwrap_or_else(|error| panic!("{error}"));
    const EXPRESSION: &str = "[a-z]{2,9}password[0-9]?";
    let expression = Pattern::regex(EXPRESSION, 4096).unwrap_or_else(|error| panic!("{error}"));
    let regex =
        RegexBuilder::new(EXPRESSION).unicode(false).build().unwrap_or_else(|error| panic!("{error}"));
    type Search<'s> = (&'s str, Box<dyn Fn() -> usize + 's>);
    let searches: [Search<'_>; 4] = [
        ("64 texts: aho-corasick", Box::new(|| automaton.find_iter(&memory).count())),
        ("64 texts: pactio scan --texts", Box::new(|| count(&texts, &memory))),
        ("inner literal: regex", Box::new(|| regex.find_iter(&memory).count())),
        ("inner literal: pactio scan --regex", Box::new(|| count(&expression, &memory))),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); searches.len()];
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds || times[0].len() < 3 {
        for ((_, search), times) in searches.iter().zip(&mut times) {
            let begun = Instant::now();
            black_box(search());
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect();
    println!("{} bytes of memory", memory.len());
    println!("| search | GB/s | times as fast |\n|---|---:|---:|");
    for (index, (name, _)) in searches.iter().enumerate() {
        let reference = medians[index / 2 * 2];
        let speed = memory.len() as f64 / 1e9 / medians[index];
        println!("| {name} | {speed:.2} | {:.2} |", reference / medians[index]);
    }
}
