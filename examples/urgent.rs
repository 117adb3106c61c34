//! Requests of different urgency at one device of 20 MiB per second: an urgent one overtakes those that wait, and one that waits
//! becomes urgent.

use std::time::{Duration, Instant};

use pactio::{Attributes, Error, Host};

fn main() -> Result<(), Error> {
    let host = Host::builder().build()?;
    let device = host.open("memory:?size=64MiB | limit?rate=20MiB")?;
    let begun = Instant::now();
    let read = |what: &'static str, attributes: &Attributes, position: u64| {
        let (device, attributes) = (device.clone(), attributes.clone());
        host.spawn(async move {
            let result = device.read_exact_at(position, vec![0; 1 << 20]).with_attributes(&attributes).await;
            let result =
                result.map_or_else(|error| format!("{error:#}"), |bytes| format!("{} bytes", bytes.len()));
            println!("{:4} ms: {what}: {result}", begun.elapsed().as_millis());
        })
    };
    let texture = Attributes::new();
    let mut reads: Vec<_> =
        (0..8).map(|number| read("background", &Attributes::new(), number << 20)).collect();
    reads.push(read("texture", &texture, 8 << 20));
    reads.push(read("what the player sees", &Attributes::new().with_urgency(10), 9 << 20));
    let soon = Attributes::new().with_deadline(Instant::now() + Duration::from_millis(200));
    reads.push(read("only of use within 200 ms", &soon, 10 << 20));
    std::thread::sleep(Duration::from_millis(120));
    // The player turns to it.
    texture.set_urgency(5);
    for read in reads {
        host.block_on(read);
    }
    Ok(())
}
