//! The panic firewall: no panic crosses the ABI.
//!
//! A panic that leaves an `extern "C"` function aborts the process, and a host cannot catch a panic of a plugin, since each
//! library has its own standard library. So every function that the other side may call runs its code in `contain`.

/// A caught panic, with its message if it had one.
#[derive(Debug)]
pub(crate) struct Panicked(#[cfg(feature = "std")] pub(crate) Option<std::string::String>);

/// Runs `f`; a panic in it ends here.
///
/// `f` may leave its captures in any state. Callers either do not use them again or poison them.
///
/// Without the standard library a panic cannot be caught. The program's panic handler handles the panic, and in most cases ends
/// the program.
#[inline(always)]
pub(crate) fn contain<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    #[cfg(feature = "std")]
    return std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(message_of);
    #[cfg(not(feature = "std"))]
    Ok(f())
}

#[cfg(feature = "std")]
#[cold]
fn message_of(payload: std::boxed::Box<dyn core::any::Any + Send>) -> Panicked {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::string::String;

    // Dropping a payload runs code of the side that panicked, which may panic again.
    catch_unwind(AssertUnwindSafe(move || {
        if let Some(text) = payload.downcast_ref::<&str>() {
            Some(String::from(*text))
        } else {
            payload.downcast_ref::<String>().cloned()
        }
    }))
    .map_or_else(
        |second| {
            // The payload of a third panic is leaked, since its drop may panic again.
            if let Err(third) = catch_unwind(AssertUnwindSafe(|| drop(second))) {
                core::mem::forget(third);
            }
            Panicked(None)
        },
        Panicked,
    )
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the payload's drop");
        }
    }

    #[test]
    fn messages_of_panics_are_kept() {
        assert_eq!(contain(|| -> () { panic!("plain") }).unwrap_err().0.as_deref(), Some("plain"));
        let number = 7;
        assert_eq!(
            contain(|| -> () { panic!("number {number}") }).unwrap_err().0.as_deref(),
            Some("number 7")
        );
        assert_eq!(contain(|| 3).unwrap(), 3);
    }

    #[test]
    fn a_payload_that_panics_in_its_drop_is_contained() {
        assert!(contain(|| -> () { std::panic::panic_any(Bomb) }).unwrap_err().0.is_none());
    }
}
