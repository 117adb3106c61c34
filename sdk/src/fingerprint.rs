//! A number that changes when anything that crosses the boundary changes.
//!
//! The layout check of `abi_stable` covers types. It does not cover the protocol of the state word or the contract of a function
//! pointer that was erased to `*const ()`. The fingerprint covers names, sizes, alignments and offsets of all boundary structs,
//! and the signatures of all functions as text.

/// An FNV-1a hash that can be computed at compile time.
#[derive(Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
    }

    pub(crate) const fn number(self, number: usize) -> Self {
        let mut print = self;
        let bytes = (number as u64).to_le_bytes();
        let mut at = 0;
        while at < bytes.len() {
            print = print.byte(bytes[at]);
            at += 1;
        }
        print
    }

    /// Text without its white space, which compilers may place differently.
    pub(crate) const fn text(self, text: &str) -> Self {
        let mut print = self;
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if !bytes[at].is_ascii_whitespace() {
                print = print.byte(bytes[at]);
            }
            at += 1;
        }
        print.byte(0)
    }

    pub(crate) const fn finish(self) -> u64 {
        self.0
    }
}

/// Adds a struct: its name, size and alignment, and each field with its offset.
macro_rules! fingerprint_struct {
    ($print:expr, $type:ty, $name:literal { $($field:ident),* $(,)? }) => {
        $crate::fingerprint::fingerprint_fields!(
            $print.text($name).number(size_of::<$type>()).number(align_of::<$type>()),
            $type { $($field),* }
        )
    };
}
pub(crate) use fingerprint_struct;

/// Adds fields of a struct, each with its offset.
macro_rules! fingerprint_fields {
    ($print:expr, $type:ty { $($field:ident),* $(,)? }) => {
        $print $(.text(stringify!($field)).number(core::mem::offset_of!($type, $field)))*
    };
}
pub(crate) use fingerprint_fields;
