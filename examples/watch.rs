//! A folder is watched while names in it change: the changes, and the time from each change until it is known.

use std::fs;
use std::time::Instant;

use pactio::Host;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let host = Host::builder().build()?;
    let tree = host.open(&format!("file:{}", folder.path().display()))?;
    let mut changes = host.block_on(tree.watch())?;
    let mut times = Vec::new();
    for number in 0..200 {
        let (begun, path) = (Instant::now(), folder.path().join(format!("{number}.txt")));
        fs::File::create(path)?;
        let told = host.block_on(changes.next())?;
        times.push(begun.elapsed());
        if number < 3 {
            told.iter().for_each(|change| println!("{change}"));
        }
    }
    times.sort();
    println!("known after {:?} (median), {:?} (worst of {})", times[100], times[199], times.len());
    Ok(())
}
