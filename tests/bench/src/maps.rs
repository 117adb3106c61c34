//! The map of a process with many mappings: its list, and reads with missing pages.

use std::fs;
use std::hint::black_box;
use std::ptr;
use std::time::Instant;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Mappings that are made: somewhat below the system's usual limit.
const COUNT: usize = 60_000;

const PAGE: usize = 4096;

/// Prints the time of the list of all regions, as a multiple of reading the system's text, and the time of a read of three
/// pages of which two are missing.
pub(crate) fn maps(seconds: f64) {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    fn made<T>(result: rustix::io::Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("the memory cannot be made: {error}"))
    }
    // SAFETY: new memory at an address that the system chooses.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), COUNT * PAGE, rights, MapFlags::PRIVATE) };
    let start = made(start).cast::<u8>();
    for page in (0..COUNT).step_by(2) {
        // SAFETY: a page of the new memory, which nothing else uses.
        made(unsafe { mprotect(start.add(page * PAGE).cast(), PAGE, MprotectFlags::READ) });
    }
    let middle = COUNT / 2;
    // SAFETY: two pages of the new memory, which nothing else uses.
    made(unsafe { munmap(start.add(middle * PAGE).cast(), 2 * PAGE) });
    let host = pactio_tests::host(&["pactio_process"]);
    let device = host.open("process:self").unwrap_or_else(|error| panic!("{error}"));
    let missing = (start.addr() + middle * PAGE) as u64;
    let (mut text, mut list, mut holes) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds || text.len() < 5 {
        let timed = |times: &mut Vec<f64>, act: &dyn Fn()| {
            let begun = Instant::now();
            act();
            times.push(begun.elapsed().as_secs_f64());
        };
        timed(&mut text, &|| drop(black_box(fs::read("/proc/self/maps"))));
        timed(&mut list, &|| {
            let regions = host.block_on(device.regions()).unwrap_or_else(|error| panic!("{error}"));
            assert!(regions.len() > COUNT - 100);
        });
        for _ in 0..1000 {
            timed(&mut holes, &|| {
                let (report, _) = host
                    .block_on(device.read_at(missing, vec![0; 3 * PAGE]))
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(report.done(), PAGE);
            });
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (text, list, holes) = (median(&mut text), median(&mut list), median(&mut holes));
    println!("| map of {COUNT} mappings | |\n|---|---:|");
    println!("| text of the system | {:.1} ms |", text * 1e3);
    println!("| list of regions, times as long | {:.2} |", list / text);
    println!("| read of three pages, two of them missing | {:.1} us |", holes * 1e6);
}
