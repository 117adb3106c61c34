//! The four-byte error that crosses the ABI.

mod cause;

use core::fmt;
use core::num::NonZeroU32;

pub use cause::Cause;

/// The reason why a range of a request, or a whole call, failed.
///
/// Four bytes: a [`Code`] (the kind of failure), a [`Subject`] (the object that it concerns), a [`State`] (the state of that
/// object) and a [`Location`] (the side that reports it) with the class: [temporary](Self::is_temporary) or permanent. They are
/// packed into one non-zero integer, so that `Option<IoError>` is a plain `u32` on both sides of the ABI. Values that this
/// version does not know keep their number.
///
/// A [`Cause`](crate::Cause) is an error with a text for people.
///
/// ```
/// use pactio_sdk::{Code, IoError};
///
/// let error = IoError::from_code(Code::NOT_FOUND);
/// assert_eq!(error.code(), Code::NOT_FOUND);
/// assert_eq!(IoError::from_raw(error.to_raw()), Some(error));
/// assert_eq!(IoError::END.to_string(), "past the end of the device");
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct IoError(NonZeroU32);

/// A byte with named values. Later versions can add constants without breaking a `match`.
macro_rules! byte_type {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $constant:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(u8);

        impl $name {
            $($(#[$vdoc])* pub const $constant: Self = Self($value);)*

            /// The value as it crosses the ABI.
            pub const fn to_byte(self) -> u8 {
                self.0
            }

            /// The value for a byte. Every byte has a value; this version need not have a name for it.
            pub const fn from_byte(byte: u8) -> Self {
                Self(byte)
            }

            /// The value in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$constant => $text,)* _ => "unknown to this version" }
            }

            /// The name of its constant, if this version has one.
            const fn name(self) -> Option<&'static str> {
                match self { $(Self::$constant => Some(stringify!($constant)),)* _ => None }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    };
}

byte_type! {
    /// The kind of a failure. `0` is not a code, which keeps every [`IoError`] non-zero.
    Code {
        /// No other code fits.
        FAILED = 1 => "failed",
        /// The object does not exist.
        NOT_FOUND = 2 => "not found",
        /// The caller may not do this.
        PERMISSION_DENIED = 3 => "permission denied",
        /// The object exists already.
        ALREADY_EXISTS = 4 => "already exists",
        /// An argument is not valid.
        INVALID_INPUT = 5 => "invalid argument",
        /// The device cannot do this.
        UNSUPPORTED = 6 => "not supported",
        /// The range lies past the end of the device.
        END = 7 => "past the end of the device",
        /// A view was dropped without an answer.
        UNANSWERED = 8 => "dropped by the device without an answer",
        /// Code of the plugin panicked.
        PANICKED = 9 => "the plugin panicked",
        /// The object is out of use because its code panicked before.
        POISONED = 10 => "out of use since the plugin panicked",
        /// The request was never handed to a device.
        NOT_SUBMITTED = 11 => "never submitted",
        /// The request is still in flight.
        IN_FLIGHT = 12 => "still in flight",
        /// The request was cancelled.
        CANCELLED = 13 => "cancelled",
        /// The operation took too long.
        TIMED_OUT = 14 => "timed out",
        /// Memory ran out.
        OUT_OF_MEMORY = 15 => "out of memory",
        /// The storage is full.
        NO_SPACE = 16 => "no space left",
        /// The hardware or the system reported an input/output error.
        IO = 17 => "input/output error",
        /// The device takes no more requests now.
        BUSY = 18 => "busy",
        /// There is no connection to the other side.
        DISCONNECTED = 19 => "disconnected",
        /// The storage can only be read.
        READ_ONLY = 20 => "read-only",
        /// A directory where a file was expected.
        IS_DIRECTORY = 21 => "is a directory",
        /// Not every byte of the range was moved.
        SHORT = 22 => "only a part was moved",
        /// The data is damaged.
        CORRUPT = 23 => "corrupt data",
        /// A length or position does not fit.
        TOO_LARGE = 24 => "too large",
        /// The object has no positions, such as a pipe, a socket or a terminal.
        NOT_SEEKABLE = 25 => "not seekable",
        /// The device's driver ended while requests were in flight.
        DRIVER_ENDED = 26 => "the device's driver ended",
        /// The memory is not mapped.
        NOT_MAPPED = 27 => "not mapped",
        /// The number of objects or requests at once is too large.
        TOO_MANY = 28 => "too many at once",
        /// A position or length is not a multiple of the alignment that the device needs.
        MISALIGNED = 29 => "not aligned to what the device needs",
        /// The object has another version now than when it was opened.
        CHANGED = 30 => "changed since it was opened",
        /// The folder has names in it.
        NOT_EMPTY = 31 => "not empty",
        /// The two names are on different file systems.
        CROSSES_DEVICES = 32 => "on different file systems",
        /// A file where a directory was expected.
        NOT_DIRECTORY = 33 => "not a directory",
    }
}

byte_type! {
    /// The object that a failure concerns.
    Subject {
        /// Not specified.
        UNSPECIFIED = 0 => "unspecified",
        /// A whole request.
        PACKET = 1 => "packet",
        /// A range of a request.
        VIEW = 2 => "view",
        /// The bytes of a request.
        BUFFER = 3 => "buffer",
        /// The device.
        DEVICE = 4 => "device",
        /// The device's driver.
        DRIVER = 5 => "driver",
        /// The backend that opens devices.
        BACKEND = 6 => "backend",
        /// The plugin.
        PLUGIN = 7 => "plugin",
        /// The name that was opened.
        TARGET = 8 => "target",
        /// An option.
        OPTION = 9 => "option",
        /// A position.
        POSITION = 10 => "position",
    }
}

byte_type! {
    /// The state of the object that a failure concerns.
    State {
        /// Not specified.
        UNSPECIFIED = 0 => "unspecified",
        /// The object is missing.
        MISSING = 1 => "missing",
        /// The object is not valid.
        INVALID = 2 => "invalid",
        /// The object is outside the range that exists.
        OUTSIDE = 3 => "outside",
        /// The object is closed.
        CLOSED = 4 => "closed",
        /// The object is full.
        FULL = 5 => "full",
        /// The object was abandoned.
        ABANDONED = 6 => "abandoned",
        /// The object is in use.
        IN_USE = 7 => "in use",
    }
}

byte_type! {
    /// The side that reports a failure.
    Location {
        /// Not specified.
        UNSPECIFIED = 0 => "unspecified",
        /// The packet system.
        SDK = 1 => "sdk",
        /// A plugin.
        PLUGIN = 2 => "plugin",
        /// The host.
        HOST = 3 => "host",
        /// The operating system.
        SYSTEM = 4 => "system",
    }
}

/// The bits of the location's byte that hold the class, and their values. With 0, the class follows from the code.
const CLASS: u8 = 0b1100_0000;
const TEMPORARY: u8 = 0b0100_0000;
const PERMANENT: u8 = 0b1000_0000;

impl IoError {
    /// The range lies past the end of the device.
    pub const END: Self = Self::new(Code::END, Subject::POSITION, State::OUTSIDE, Location::PLUGIN);
    /// The device cannot do this.
    pub const UNSUPPORTED: Self =
        Self::new(Code::UNSUPPORTED, Subject::DEVICE, State::UNSPECIFIED, Location::PLUGIN);
    /// A view was dropped without an answer (rule P2).
    pub const UNANSWERED: Self = Self::new(Code::UNANSWERED, Subject::VIEW, State::ABANDONED, Location::SDK);
    /// The device reported success, but moved only the first part.
    pub const SHORT: Self = Self::new(Code::SHORT, Subject::BUFFER, State::UNSPECIFIED, Location::SDK);
    /// The plugin panicked in this call.
    pub const PANICKED: Self = Self::new(Code::PANICKED, Subject::PLUGIN, State::UNSPECIFIED, Location::SDK);
    /// The plugin panicked in an earlier call.
    pub const POISONED: Self = Self::new(Code::POISONED, Subject::PLUGIN, State::CLOSED, Location::SDK);
    /// The deadline of the request has passed. Permanent: the same request is not in time later.
    pub const LATE: Self =
        Self::new(Code::TIMED_OUT, Subject::PACKET, State::ABANDONED, Location::PLUGIN).permanent();
    /// The packet was never handed to a device.
    pub const NOT_SUBMITTED: Self =
        Self::new(Code::NOT_SUBMITTED, Subject::PACKET, State::UNSPECIFIED, Location::SDK);
    /// The packet is in flight, its bytes cannot be accessed now.
    pub const IN_FLIGHT: Self = Self::new(Code::IN_FLIGHT, Subject::PACKET, State::IN_USE, Location::SDK);
    /// The device's driver ended while requests were in flight.
    pub const DRIVER_ENDED: Self =
        Self::new(Code::DRIVER_ENDED, Subject::DRIVER, State::CLOSED, Location::PLUGIN);
    /// Memory for a request could not be allocated.
    pub const OUT_OF_MEMORY: Self =
        Self::new(Code::OUT_OF_MEMORY, Subject::BUFFER, State::UNSPECIFIED, Location::SDK);
    /// The request was cancelled.
    pub const CANCELLED: Self =
        Self::new(Code::CANCELLED, Subject::PACKET, State::ABANDONED, Location::PLUGIN);
    /// The packet is complex: functions produce or consume its bytes, so there is no slice of them.
    pub const NO_BYTES: Self = Self::new(Code::UNSUPPORTED, Subject::PACKET, State::MISSING, Location::SDK);
    /// A position or length is larger than the type can express.
    pub const TOO_LARGE: Self = Self::new(Code::TOO_LARGE, Subject::POSITION, State::OUTSIDE, Location::SDK);

    /// An error of four parts.
    ///
    /// ```
    /// use pactio_sdk::{Code, IoError, Location, State, Subject};
    /// let error = IoError::new(Code::BUSY, Subject::DEVICE, State::FULL, Location::PLUGIN);
    /// assert_eq!(error.subject(), Subject::DEVICE);
    /// ```
    pub const fn new(code: Code, subject: Subject, state: State, location: Location) -> Self {
        let code = match code.to_byte() {
            0 => Code::FAILED.to_byte(),
            byte => byte,
        };
        let location = location.to_byte() & !CLASS;
        let raw = u32::from_le_bytes([code, subject.to_byte(), state.to_byte(), location]);
        match NonZeroU32::new(raw) {
            Some(raw) => Self(raw),
            None => unreachable!(),
        }
    }

    /// An error of a plugin with no more than a code.
    pub const fn from_code(code: Code) -> Self {
        Self::new(code, Subject::UNSPECIFIED, State::UNSPECIFIED, Location::PLUGIN)
    }

    /// The kind of the failure.
    pub const fn code(self) -> Code {
        Code::from_byte(self.0.get().to_le_bytes()[0])
    }

    /// The object that the failure concerns.
    pub const fn subject(self) -> Subject {
        Subject::from_byte(self.0.get().to_le_bytes()[1])
    }

    /// The state of that object.
    pub const fn state(self) -> State {
        State::from_byte(self.0.get().to_le_bytes()[2])
    }

    /// The side that reports the failure.
    pub const fn location(self) -> Location {
        Location::from_byte(self.0.get().to_le_bytes()[3] & !CLASS)
    }

    /// The same request may succeed later without a change, as when a server is busy or a connection broke.
    ///
    /// The device sets the class with [`temporary`](Self::temporary) or [`permanent`](Self::permanent). Otherwise the class
    /// follows from the code: [`Code::BUSY`], [`Code::TIMED_OUT`] and [`Code::DISCONNECTED`] are temporary.
    ///
    /// ```
    /// use pactio_sdk::{Code, IoError};
    ///
    /// assert!(IoError::from_code(Code::BUSY).is_temporary());
    /// assert!(!IoError::from_code(Code::IO).is_temporary());
    /// // The server answered "500 Internal Server Error".
    /// assert!(IoError::from_code(Code::IO).temporary().is_temporary());
    /// ```
    pub const fn is_temporary(self) -> bool {
        match self.0.get().to_le_bytes()[3] & CLASS {
            TEMPORARY => true,
            0 => matches!(self.code(), Code::BUSY | Code::TIMED_OUT | Code::DISCONNECTED),
            _ => false,
        }
    }

    /// The same error, of the class temporary.
    #[must_use]
    pub const fn temporary(self) -> Self {
        self.with_class(TEMPORARY)
    }

    /// The same error, of the class permanent: trying again changes nothing.
    #[must_use]
    pub const fn permanent(self) -> Self {
        self.with_class(PERMANENT)
    }

    const fn with_class(self, class: u8) -> Self {
        let [code, subject, state, location] = self.0.get().to_le_bytes();
        match NonZeroU32::new(u32::from_le_bytes([code, subject, state, location & !CLASS | class])) {
            Some(raw) => Self(raw),
            None => self,
        }
    }

    /// The integer that crosses the ABI.
    pub const fn to_raw(self) -> u32 {
        self.0.get()
    }

    /// The error for an integer; `None` for zero, which means "no error".
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            code if code.name().is_some() => f.write_str(code.text()),
            code => write!(f, "error code {}, unknown to this version of pactio", code.to_byte()),
        }
    }
}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoError")
            .field("code", &self.code())
            .field("subject", &self.subject())
            .field("state", &self.state())
            .field("location", &self.location())
            .field("temporary", &self.is_temporary())
            .finish()
    }
}

impl core::error::Error for IoError {}

#[cfg(feature = "std")]
impl From<std::io::Error> for IoError {
    /// An error that was made from an `IoError` or a [`Cause`](crate::Cause) gives the whole `IoError` back; any other error
    /// keeps only its kind. Numbers of the operating system do not cross the ABI, since the two sides need not agree on them.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        if let Some(inner) = error.get_ref() {
            if let Some(error) = inner.downcast_ref::<Self>() {
                return *error;
            }
            if let Some(cause) = inner.downcast_ref::<Cause>() {
                return cause.error();
            }
        }
        let code = match error.kind() {
            Kind::NotFound => Code::NOT_FOUND,
            Kind::PermissionDenied => Code::PERMISSION_DENIED,
            Kind::AlreadyExists => Code::ALREADY_EXISTS,
            Kind::InvalidInput => Code::INVALID_INPUT,
            Kind::Unsupported => Code::UNSUPPORTED,
            Kind::UnexpectedEof => Code::END,
            Kind::TimedOut => Code::TIMED_OUT,
            Kind::OutOfMemory => Code::OUT_OF_MEMORY,
            Kind::StorageFull | Kind::QuotaExceeded => Code::NO_SPACE,
            Kind::ResourceBusy | Kind::WouldBlock => Code::BUSY,
            Kind::BrokenPipe
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => Code::DISCONNECTED,
            Kind::ReadOnlyFilesystem => Code::READ_ONLY,
            Kind::IsADirectory => Code::IS_DIRECTORY,
            Kind::NotSeekable => Code::NOT_SEEKABLE,
            Kind::FileTooLarge => Code::TOO_LARGE,
            Kind::InvalidData => Code::CORRUPT,
            Kind::DirectoryNotEmpty => Code::NOT_EMPTY,
            Kind::CrossesDevices => Code::CROSSES_DEVICES,
            Kind::NotADirectory => Code::NOT_DIRECTORY,
            Kind::InvalidFilename => Code::INVALID_INPUT,
            _ => Code::IO,
        };
        Self::new(code, Subject::UNSPECIFIED, State::UNSPECIFIED, Location::SYSTEM)
    }
}

#[cfg(feature = "std")]
impl From<IoError> for std::io::Error {
    fn from(error: IoError) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(feature = "std")]
impl IoError {
    /// The nearest kind of the standard library.
    ///
    /// ```
    /// use pactio_sdk::{Code, IoError};
    /// use std::io::ErrorKind;
    ///
    /// assert_eq!(IoError::END.kind(), ErrorKind::UnexpectedEof);
    /// assert_eq!(IoError::from_code(Code::DISCONNECTED).kind(), ErrorKind::ConnectionReset);
    /// ```
    pub fn kind(self) -> std::io::ErrorKind {
        use std::io::ErrorKind as Kind;
        match self.code() {
            Code::NOT_FOUND => Kind::NotFound,
            Code::PERMISSION_DENIED => Kind::PermissionDenied,
            Code::ALREADY_EXISTS => Kind::AlreadyExists,
            Code::INVALID_INPUT | Code::MISALIGNED => Kind::InvalidInput,
            Code::UNSUPPORTED => Kind::Unsupported,
            Code::END | Code::SHORT => Kind::UnexpectedEof,
            Code::TIMED_OUT => Kind::TimedOut,
            Code::OUT_OF_MEMORY => Kind::OutOfMemory,
            Code::NO_SPACE => Kind::StorageFull,
            Code::BUSY => Kind::ResourceBusy,
            // Not `BrokenPipe`: programs treat a broken pipe as the end of their own output.
            Code::DISCONNECTED => Kind::ConnectionReset,
            Code::READ_ONLY => Kind::ReadOnlyFilesystem,
            Code::IS_DIRECTORY => Kind::IsADirectory,
            Code::NOT_SEEKABLE => Kind::NotSeekable,
            Code::TOO_LARGE => Kind::FileTooLarge,
            Code::CORRUPT => Kind::InvalidData,
            Code::NOT_EMPTY => Kind::DirectoryNotEmpty,
            Code::CROSSES_DEVICES => Kind::CrossesDevices,
            Code::NOT_DIRECTORY => Kind::NotADirectory,
            _ => Kind::Other,
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn every_raw_value_decodes_and_comes_back() {
        for raw in [1, 0xff, 0x0100, 0xffff_ffff, 0x8000_0000, 0x0403_0201] {
            let error = IoError::from_raw(raw).unwrap();
            assert_eq!(error.to_raw(), raw);
            assert!(!format!("{error} {error:?}").is_empty());
        }
        assert_eq!(IoError::from_raw(0), None);
    }

    #[test]
    fn the_class_is_what_was_said_and_changes_nothing_else() {
        let busy = IoError::new(Code::BUSY, Subject::DEVICE, State::FULL, Location::from_byte(0xff));
        assert_eq!((busy.location().to_byte(), busy.is_temporary()), (0x3f, true));
        let permanent = busy.permanent();
        assert!(!permanent.is_temporary() && permanent.temporary().is_temporary());
        assert_eq!((permanent.code(), permanent.location()), (busy.code(), busy.location()));
        assert_eq!(IoError::from_raw(permanent.to_raw()), Some(permanent));
        // Class bits that have no meaning in any version count as permanent.
        assert!(!IoError::from_raw(0xc000_0012).unwrap().is_temporary());
    }

    #[test]
    fn an_error_comes_back_whole_from_an_error_of_the_system() {
        let error =
            IoError::new(Code::CHANGED, Subject::TARGET, State::INVALID, Location::PLUGIN).temporary();
        assert_eq!(IoError::from(std::io::Error::from(error)), error);
        let cause = crate::Cause::new(error, "it is another one now");
        let system = std::io::Error::from(cause);
        assert!(system.to_string().contains("it is another one now"));
        assert_eq!(IoError::from(system), error);
    }

    #[test]
    fn a_code_of_zero_is_never_made() {
        let error = IoError::new(Code::from_byte(0), Subject::PACKET, State::FULL, Location::SDK);
        assert_eq!(error.code(), Code::FAILED);
    }

    #[test]
    fn errors_of_the_system_keep_their_kind_in_both_directions() {
        for kind in [
            std::io::ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied,
            std::io::ErrorKind::StorageFull,
            std::io::ErrorKind::IsADirectory,
            std::io::ErrorKind::ReadOnlyFilesystem,
            std::io::ErrorKind::TimedOut,
        ] {
            assert_eq!(std::io::Error::from(IoError::from(std::io::Error::from(kind))).kind(), kind);
        }
    }
}
