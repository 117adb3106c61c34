//! Runs variants interleaved and makes the table.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Name of the reference variant: the figures of all others are divided by its figures.
pub(crate) const REFERENCE: &str = "static async fn";

/// One way to do the work.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Does this number of operations.
    work: Box<dyn FnMut(u64)>,
    /// Operations per call are a multiple of this.
    batch: u64,
}

impl Variant {
    pub(crate) fn new(name: &'static str, work: impl FnMut(u64) + 'static) -> Self {
        Self { name, work: Box::new(work), batch: 1 }
    }

    /// A variant that has `batch` operations in flight.
    pub(crate) fn batched(name: &'static str, batch: usize, work: impl FnMut(u64) + 'static) -> Self {
        Self { batch: batch as u64, ..Self::new(name, work) }
    }

    pub(crate) fn run(&mut self, count: u64) {
        (self.work)(count.next_multiple_of(self.batch));
    }
}

/// Counts the allocations of this program alone: loaded plugins call the system's `malloc` directly.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives a pointer that `alloc` returned for this layout, which came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) struct Row {
    pub(crate) name: String,
    nanoseconds: f64,
    pub(crate) ratio: f64,
    /// Nanoseconds of the fastest samples, one in twenty: other programs on the machine only make samples slower.
    pub(crate) fastest: f64,
    /// Processor time of all threads, user and system, as a multiple of the reference's.
    cpu: f64,
    allocations: f64,
    pub(crate) instructions: Option<f64>,
}

pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    rounds: usize,
}

/// Duration of one sample of one variant.
const SAMPLE: Duration = Duration::from_millis(4);

/// Measures for about `seconds` seconds. Without a [`REFERENCE`], the first variant is the reference.
pub(crate) fn measure(variants: Vec<Variant>, seconds: f64) -> Table {
    measure_after(|| {}, variants, seconds)
}

/// Like `measure`, with `prepare` called before each round.
pub(crate) fn measure_after(prepare: impl Fn(), mut variants: Vec<Variant>, seconds: f64) -> Table {
    prepare();
    let counts: Vec<u64> = variants.iter_mut().map(calibrate).collect();
    let begin = Instant::now();
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    let mut cpu = samples.clone();
    let mut allocations = vec![0.0; variants.len()];
    let mut rounds = 0;
    while rounds < 3 || begin.elapsed().as_secs_f64() < seconds {
        prepare();
        for (index, variant) in variants.iter_mut().enumerate() {
            let (allocated, used, start) = (ALLOCATIONS.load(Ordering::Relaxed), processor(), Instant::now());
            variant.run(counts[index]);
            samples[index].push(start.elapsed().as_nanos() as f64 / counts[index] as f64);
            cpu[index].push((processor() - used).as_nanos() as f64 / counts[index] as f64);
            allocations[index] =
                (ALLOCATIONS.load(Ordering::Relaxed) - allocated) as f64 / counts[index] as f64;
        }
        rounds += 1;
    }
    let medians: Vec<f64> = samples.iter_mut().map(|samples| median(samples)).collect();
    let cpu: Vec<f64> = cpu.iter_mut().map(|samples| median(samples)).collect();
    let reference = variants.iter().position(|variant| variant.name == REFERENCE).unwrap_or(0);
    let rows = variants
        .iter()
        .enumerate()
        .map(|(index, variant)| Row {
            name: variant.name.to_owned(),
            nanoseconds: medians[index],
            ratio: medians[index] / medians[reference],
            // `median` has sorted them.
            fastest: samples[index][samples[index].len() / 20],
            cpu: cpu[index] / cpu[reference],
            allocations: allocations[index],
            instructions: None,
        })
        .collect();
    Table { rows, rounds }
}

/// The processor time that all threads of this process have used.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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
            // A rate above a thousandth is an allocation per operation or batch. A lower rate is the growth of a buffer, or a new
            // thread.
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

/// The speed of each variant as a multiple of the reference's, and its processor time, with a column for each case.
#[derive(Default)]
pub(crate) struct Speeds {
    cases: Vec<String>,
    rows: Vec<Speed>,
}

/// One variant in all cases.
struct Speed {
    name: String,
    times_as_fast: Vec<f64>,
    cpu: Vec<f64>,
}

impl Speeds {
    /// Takes one case. All of them have the same variants, in the same order.
    pub(crate) fn push(&mut self, case: String, table: Table) {
        if self.rows.is_empty() {
            let speed = |row: &Row| Speed { name: row.name.clone(), times_as_fast: vec![], cpu: vec![] };
            self.rows = table.rows.iter().map(speed).collect();
        }
        for (speed, row) in self.rows.iter_mut().zip(table.rows) {
            assert_eq!(speed.name, row.name);
            speed.times_as_fast.push(1.0 / row.ratio);
            speed.cpu.push(row.cpu);
        }
        self.cases.push(case);
    }

    /// Prints both tables; `what` names the columns.
    pub(crate) fn print(&self, what: &str) {
        self.table(&format!("times as fast; {what}"), |speed| &speed.times_as_fast);
        println!();
        self.table(&format!("processor time; {what}"), |speed| &speed.cpu);
    }

    fn table(&self, head: &str, figures: impl Fn(&Speed) -> &[f64]) {
        println!("| {head} | {} |", self.cases.join(" | "));
        println!("|---|{}", "---:|".repeat(self.cases.len()));
        for speed in &self.rows {
            let figures: Vec<_> = figures(speed).iter().map(|figure| format!("{figure:.2}")).collect();
            println!("| {} | {} |", speed.name, figures.join(" | "));
        }
    }
}
