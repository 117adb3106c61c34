//! Runs variants interleaved and makes the table.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Name of the variant that all others are divided by.
pub(crate) const REFERENCE: &str = "static async fn";

/// One way to do the work.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Does so many operations.
    work: Box<dyn FnMut(u64)>,
    /// Operations per call are a multiple of this.
    batch: u64,
}

impl Variant {
    pub(crate) fn new(name: &'static str, work: impl FnMut(u64) + 'static) -> Self {
        Self { name, work: Box::new(work), batch: 1 }
    }

    /// A variant that has so many operations in flight.
    pub(crate) fn batched(name: &'static str, batch: usize, work: impl FnMut(u64) + 'static) -> Self {
        Self { batch: batch as u64, ..Self::new(name, work) }
    }

    pub(crate) fn run(&mut self, count: u64) {
        (self.work)(count.next_multiple_of(self.batch));
    }
}

/// Counts allocations of this program and, since plugins use the same `malloc`, only of this program.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as required of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as required of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) struct Row {
    pub(crate) name: String,
    nanoseconds: f64,
    pub(crate) ratio: f64,
    allocations: f64,
    pub(crate) instructions: Option<f64>,
}

pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    rounds: usize,
}

/// How long one sample of one variant takes.
const SAMPLE: Duration = Duration::from_millis(4);

/// Measures for about so many seconds. What is no [`REFERENCE`] is divided by the first one.
pub(crate) fn measure(mut variants: Vec<Variant>, seconds: f64) -> Table {
    let counts: Vec<u64> = variants.iter_mut().map(calibrate).collect();
    let begin = Instant::now();
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    let mut allocations = vec![0.0; variants.len()];
    let mut rounds = 0;
    while rounds < 3 || begin.elapsed().as_secs_f64() < seconds {
        for (index, variant) in variants.iter_mut().enumerate() {
            let (allocated, start) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
            variant.run(counts[index]);
            samples[index].push(start.elapsed().as_nanos() as f64 / counts[index] as f64);
            allocations[index] =
                (ALLOCATIONS.load(Ordering::Relaxed) - allocated) as f64 / counts[index] as f64;
        }
        rounds += 1;
    }
    let medians: Vec<f64> = samples.iter_mut().map(|samples| median(samples)).collect();
    let reference = variants.iter().position(|variant| variant.name == REFERENCE);
    let reference = medians[reference.unwrap_or(0)];
    let rows = variants
        .iter()
        .enumerate()
        .map(|(index, variant)| Row {
            name: variant.name.to_owned(),
            nanoseconds: medians[index],
            ratio: medians[index] / reference,
            allocations: allocations[index],
            instructions: None,
        })
        .collect();
    Table { rows, rounds }
}

fn calibrate(variant: &mut Variant) -> u64 {
    let mut count = variant.batch;
    loop {
        let start = Instant::now();
        variant.run(count);
        if start.elapsed() >= SAMPLE || count > 1 << 30 {
            return count;
        }
        count *= 2;
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| 64-byte read in memory | ns | x static async | instructions | allocations |")?;
        writeln!(f, "|---|---:|---:|---:|---:|")?;
        for row in &self.rows {
            let instructions = row.instructions.map_or("-".to_owned(), |count| format!("{count:.0}"));
            // Above a thousandth it is one per operation or batch, below it is growth of a buffer or a thread.
            let allocations =
                if row.allocations < 0.001 { "0".to_owned() } else { format!("{:.2}", row.allocations) };
            writeln!(
                f,
                "| {} | {:.1} | {:.2} | {instructions} | {allocations} |",
                row.name, row.nanoseconds, row.ratio
            )?;
        }
        writeln!(f, "\nmedians of {} rounds, variants interleaved", self.rounds)
    }
}

/// How many times as fast as the first one each variant is, with a column for each case.
#[derive(Default)]
pub(crate) struct Speeds {
    cases: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

impl Speeds {
    /// Takes one case. All of them have the same variants, in the same order.
    pub(crate) fn push(&mut self, case: String, table: Table) {
        if self.rows.is_empty() {
            self.rows = table.rows.iter().map(|row| (row.name.clone(), Vec::new())).collect();
        }
        for (speeds, row) in self.rows.iter_mut().zip(table.rows) {
            assert_eq!(speeds.0, row.name);
            speeds.1.push(1.0 / row.ratio);
        }
        self.cases.push(case);
    }

    /// Prints the table; `what` heads its first column.
    pub(crate) fn print(&self, what: &str) {
        println!("| {what} | {} |", self.cases.join(" | "));
        println!("|---|{}", "---:|".repeat(self.cases.len()));
        for (name, speeds) in &self.rows {
            let speeds: Vec<_> = speeds.iter().map(|speed| format!("{speed:.2}")).collect();
            println!("| {name} | {} |", speeds.join(" | "));
        }
    }
}
