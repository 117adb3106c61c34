/work/main/tests/bare/target/debug/deps/pactio_bare-049ae756624a567f.d: src/lib.rs

/work/main/tests/bare/target/debug/deps/libpactio_bare-049ae756624a567f.rmeta: src/lib.rs

src/lib.rs:
