/work/main/tests/bare/target/debug/deps/pactio_sdk-e1c3c6bc58db35bd.d: /work/main/sdk/src/lib.rs /work/main/sdk/src/error.rs /work/main/sdk/src/firewall.rs /work/main/sdk/src/sync.rs /work/main/sdk/src/packet/mod.rs /work/main/sdk/src/packet/allocated.rs /work/main/sdk/src/packet/any.rs /work/main/sdk/src/packet/arrivals.rs /work/main/sdk/src/packet/block.rs /work/main/sdk/src/packet/complex.rs /work/main/sdk/src/packet/continuation.rs /work/main/sdk/src/packet/derived.rs /work/main/sdk/src/packet/failures.rs /work/main/sdk/src/packet/full.rs /work/main/sdk/src/packet/header.rs /work/main/sdk/src/packet/into_packet.rs /work/main/sdk/src/packet/lent.rs /work/main/sdk/src/packet/memory.rs /work/main/sdk/src/packet/output.rs /work/main/sdk/src/packet/owner.rs /work/main/sdk/src/packet/permission.rs /work/main/sdk/src/packet/rebound.rs /work/main/sdk/src/packet/report.rs /work/main/sdk/src/packet/returned.rs /work/main/sdk/src/packet/state.rs /work/main/sdk/src/packet/store.rs /work/main/sdk/src/packet/stream.rs /work/main/sdk/src/packet/transferred.rs /work/main/sdk/src/packet/unbound.rs /work/main/sdk/src/packet/vec.rs /work/main/sdk/src/packet/view.rs /work/main/sdk/src/packet/watch.rs /work/main/sdk/src/io/mod.rs /work/main/sdk/src/io/batch.rs /work/main/sdk/src/io/ext.rs /work/main/sdk/src/io/read.rs /work/main/sdk/src/io/request.rs /work/main/sdk/src/io/vectored.rs /work/main/sdk/src/io/write.rs /work/main/sdk/src/../docs/guide.md

/work/main/tests/bare/target/debug/deps/libpactio_sdk-e1c3c6bc58db35bd.rmeta: /work/main/sdk/src/lib.rs /work/main/sdk/src/error.rs /work/main/sdk/src/firewall.rs /work/main/sdk/src/sync.rs /work/main/sdk/src/packet/mod.rs /work/main/sdk/src/packet/allocated.rs /work/main/sdk/src/packet/any.rs /work/main/sdk/src/packet/arrivals.rs /work/main/sdk/src/packet/block.rs /work/main/sdk/src/packet/complex.rs /work/main/sdk/src/packet/continuation.rs /work/main/sdk/src/packet/derived.rs /work/main/sdk/src/packet/failures.rs /work/main/sdk/src/packet/full.rs /work/main/sdk/src/packet/header.rs /work/main/sdk/src/packet/into_packet.rs /work/main/sdk/src/packet/lent.rs /work/main/sdk/src/packet/memory.rs /work/main/sdk/src/packet/output.rs /work/main/sdk/src/packet/owner.rs /work/main/sdk/src/packet/permission.rs /work/main/sdk/src/packet/rebound.rs /work/main/sdk/src/packet/report.rs /work/main/sdk/src/packet/returned.rs /work/main/sdk/src/packet/state.rs /work/main/sdk/src/packet/store.rs /work/main/sdk/src/packet/stream.rs /work/main/sdk/src/packet/transferred.rs /work/main/sdk/src/packet/unbound.rs /work/main/sdk/src/packet/vec.rs /work/main/sdk/src/packet/view.rs /work/main/sdk/src/packet/watch.rs /work/main/sdk/src/io/mod.rs /work/main/sdk/src/io/batch.rs /work/main/sdk/src/io/ext.rs /work/main/sdk/src/io/read.rs /work/main/sdk/src/io/request.rs /work/main/sdk/src/io/vectored.rs /work/main/sdk/src/io/write.rs /work/main/sdk/src/../docs/guide.md

/work/main/sdk/src/lib.rs:
/work/main/sdk/src/error.rs:
/work/main/sdk/src/firewall.rs:
/work/main/sdk/src/sync.rs:
/work/main/sdk/src/packet/mod.rs:
/work/main/sdk/src/packet/allocated.rs:
/work/main/sdk/src/packet/any.rs:
/work/main/sdk/src/packet/arrivals.rs:
/work/main/sdk/src/packet/block.rs:
/work/main/sdk/src/packet/complex.rs:
/work/main/sdk/src/packet/continuation.rs:
/work/main/sdk/src/packet/derived.rs:
/work/main/sdk/src/packet/failures.rs:
/work/main/sdk/src/packet/full.rs:
/work/main/sdk/src/packet/header.rs:
/work/main/sdk/src/packet/into_packet.rs:
/work/main/sdk/src/packet/lent.rs:
/work/main/sdk/src/packet/memory.rs:
/work/main/sdk/src/packet/output.rs:
/work/main/sdk/src/packet/owner.rs:
/work/main/sdk/src/packet/permission.rs:
/work/main/sdk/src/packet/rebound.rs:
/work/main/sdk/src/packet/report.rs:
/work/main/sdk/src/packet/returned.rs:
/work/main/sdk/src/packet/state.rs:
/work/main/sdk/src/packet/store.rs:
/work/main/sdk/src/packet/stream.rs:
/work/main/sdk/src/packet/transferred.rs:
/work/main/sdk/src/packet/unbound.rs:
/work/main/sdk/src/packet/vec.rs:
/work/main/sdk/src/packet/view.rs:
/work/main/sdk/src/packet/watch.rs:
/work/main/sdk/src/io/mod.rs:
/work/main/sdk/src/io/batch.rs:
/work/main/sdk/src/io/ext.rs:
/work/main/sdk/src/io/read.rs:
/work/main/sdk/src/io/request.rs:
/work/main/sdk/src/io/vectored.rs:
/work/main/sdk/src/io/write.rs:
/work/main/sdk/src/../docs/guide.md:
