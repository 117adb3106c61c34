//! The rules of the packet system above the single packet, each with its number; those of one packet stand beside its code.
//! "Was" in a name: the way in which the system that this one descends from broke the rule.

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
