//! Random trees of all operations on a view, against a model that gives the expected result of each byte.
//!
//! A tree is made from a stream of bytes, random or a fuzzer's, before it is run; so the model needs no view, and the views may
//! be answered on any thread.

mod model;
mod plan;
mod run;
mod side;

pub use model::Model;
pub use plan::{Bytes, Plan};
pub use run::{Workers, case};
