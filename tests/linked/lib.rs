//! Tests of plugins that are linked into a program.
