//! Random trees of all operations on a view, against a model; see the crate `pactio-trees`.

use std::sync::Arc;

use pactio_trees::{Workers, case};

/// `PACTIO_CASES` is the number of cases; `PACTIO_SEED` is the seed of the random numbers.
#[test]
fn what_becomes_of_each_byte_is_what_the_model_says() {
    let cases = std::env::var("PACTIO_CASES").map_or(20_000, |cases| cases.parse().expect("a number"));
    let mut seeds = pactio_tests::random();
    let workers = Arc::new(Workers::new(3));
    for number in 0..cases {
        let seed = seeds.u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let run = std::panic::AssertUnwindSafe(|| case(&mut || random.u8(..), &workers));
        if let Err(payload) = std::panic::catch_unwind(run) {
            println!("case {number} failed; its own seed is {seed}");
            std::panic::resume_unwind(payload);
        }
    }
    println!("random_trees={cases}");
}
