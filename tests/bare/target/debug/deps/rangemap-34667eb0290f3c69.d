/work/main/tests/bare/target/debug/deps/rangemap-34667eb0290f3c69.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_map.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_set.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/map.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/operations.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/set.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/range_wrapper.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/std_ext.rs

/work/main/tests/bare/target/debug/deps/librangemap-34667eb0290f3c69.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_map.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_set.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/map.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/operations.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/set.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/range_wrapper.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/std_ext.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/lib.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_map.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/inclusive_set.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/map.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/operations.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/set.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/range_wrapper.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rangemap-1.8.0/src/std_ext.rs:
