//! The rules of the packet system above the single packet, each with its number; the tests of one packet stand beside its code. A
//! comment with "Was" states how the predecessor of this system broke the rule.

mod admission;
mod cancellation;
mod complex;
mod drivers;
mod guide;
mod interception;
mod lent;
mod outputs;
mod requests;
mod seekable;
mod support;
mod vectored;
