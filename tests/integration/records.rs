//! Records and spans of plugins arrive with the host's subscriber.

use pactio_tests::{Records, host, in_time};

/// One test, since `tracing` caches for each call site whether a subscriber is interested, and only asks the subscriber of the
/// thread that reaches the call site first.
#[test]
fn records_and_spans_of_a_plugin_are_the_host_s() {
    in_time(|| {
        nobody_listens_and_nothing_is_made();
        let records = Records::default();
        tracing::subscriber::with_default(records.subscriber("pactio::plugin=info"), || {
            let host = host(&["fixture_chatty", "fixture_identity"]);
            let device = host.open("chatty:here | identity").unwrap();
            let span = tracing::info_span!(target: "pactio::plugin", "mine");
            let _entered = span.enter();
            host.block_on(async {
                device.read::<u64>(0).await.unwrap();
                device.read::<u64>(1).await.unwrap();
            });
        });
        let text = records.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0]
                .contains("INFO pactio::plugin: opening plugin=\"fixture-chatty\" target=\"fixture_chatty\""),
            "{text}"
        );
        assert!(lines[0].ends_with("fields=\"target=\\\"here\\\"\""), "{text}");
        // The record names the device although a filter is on the device, and is in the spans of both sides.
        assert!(lines[1].trim_start().starts_with("WARN mine:plugin{name=\"reading\" plugin=\"fixture-chatty\" device=\"chatty:here\" target=\"fixture_chatty\" fields=\"position=0\"}: pactio::plugin: a request of 'here' plugin=\"fixture-chatty\" device=\"chatty:here\""), "{text}");
        assert!(lines[1].contains("fields=\"len=8 text=\\\"a \\\\\\\"b\\\\\\\"\\\"\""), "{text}");
        // The debug record in between is filtered out.
        assert!(
            lines[2].contains("plugin{name=\"reading\"") && lines[2].contains("plugin{name=\"deeper\""),
            "{text}"
        );
        assert!(lines[2].contains("still inside") && lines[2].contains("target=\"elsewhere\""), "{text}");
        // A record outside of the spans has no span.
        assert_eq!(text.matches("mine:").count(), 2);
    });
}

fn nobody_listens_and_nothing_is_made() {
    let host = host(&["fixture_chatty"]);
    let device = host.open("chatty:here").unwrap();
    // A value in this record would panic when it is formatted.
    assert_eq!(host.block_on(device.read::<u64>(2)).unwrap(), u64::from_ne_bytes([1; 8]));
    let records = Records::default();
    tracing::subscriber::with_default(records.subscriber("pactio::plugin=info"), || {
        // When the value is formatted, the plugin panics, and the request fails.
        assert!(host.block_on(device.read::<u64>(2)).is_err());
    });
}
