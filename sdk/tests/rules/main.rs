//! Tests of the rules that concern more than a single packet, each with the number of its rule. The tests of single packets are
//! next to their code. A comment with "Was" states how the predecessor of this system broke the rule.

mod admission;
mod at_hand;
mod attributes;
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
