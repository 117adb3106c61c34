//! Any number that crosses the boundary as an error decodes, prints and encodes to the same number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pactio_sdk::IoError;

fuzz_target!(|raw: u32| {
    let Some(error) = IoError::from_raw(raw) else { return assert_eq!(raw, 0) };
    assert_eq!(error.to_raw(), raw);
    let again = IoError::new(error.code(), error.subject(), error.state(), error.location());
    // `IoError::new` makes no code of zero, and derives the class from the code. Another class is stated separately.
    let whole = [again, again.temporary(), again.permanent()];
    assert!(whole.contains(&error) || raw & 0xff == 0 || raw >> 30 == 3, "{error:?}");
    let class = if error.is_temporary() { error.temporary() } else { error.permanent() };
    assert!(class.is_temporary() == error.is_temporary(), "{error:?}");
    assert_eq!((class.code(), class.location()), (error.code(), error.location()));
    assert!(!format!("{error} {error:?}").is_empty());
});
