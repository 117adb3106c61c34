//! The four-byte error that crosses the ABI.

use core::fmt;
use core::num::NonZeroU32;

/// Why a range of a request, or a whole call, failed.
///
/// Four bytes: a [`Code`] (what went wrong), a [`Subject`] (with what), a [`State`] (how that was found) and a
/// [`Location`] (who says so). They are packed into one non-zero integer, so that `Option<Error>` is a plain `u32` on
/// both sides of the ABI. Values that this version does not know decode to `Unknown` and keep their number.
///
/// ```
/// use pactio_sdk::{Code, Error};
///
/// let error = Error::from_code(Code::NotFound);
/// assert_eq!(error.code(), Code::NotFound);
/// assert_eq!(Error::from_raw(error.to_raw()), Some(error));
/// assert_eq!(Error::END.to_string(), "past the end of the device");
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "plugin", derive(abi_stable::StableAbi))]
pub struct Error(NonZeroU32);

macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value of another version of pactio.
            Unknown(u8),
        }

        impl $name {
            /// The value as it crosses the ABI.
            pub const fn to_byte(self) -> u8 {
                match self { $(Self::$variant => $value,)* Self::Unknown(byte) => byte }
            }

            /// The value for a byte; never fails.
            pub const fn from_byte(byte: u8) -> Self {
                match byte { $($value => Self::$variant,)* other => Self::Unknown(other) }
            }

            /// The value in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* Self::Unknown(_) => "unknown to this version" }
            }
        }
    };
}

byte_enum! {
    /// What went wrong. `0` is not a code, which keeps every [`Error`] non-zero.
    Code {
        /// No better word exists.
        Failed = 1 => "failed",
        /// The thing does not exist.
        NotFound = 2 => "not found",
        /// The caller may not do this.
        PermissionDenied = 3 => "permission denied",
        /// The thing exists already.
        AlreadyExists = 4 => "already exists",
        /// An argument makes no sense.
        InvalidInput = 5 => "invalid argument",
        /// The device cannot do this.
        Unsupported = 6 => "not supported",
        /// The range lies past the end of the device.
        End = 7 => "past the end of the device",
        /// A view was dropped without an answer.
        Unanswered = 8 => "dropped by the device without an answer",
        /// Code of the plugin panicked.
        Panicked = 9 => "the plugin panicked",
        /// The object is out of use because its code panicked before.
        Poisoned = 10 => "out of use since the plugin panicked",
        /// The request was never handed to a device.
        NotSubmitted = 11 => "never submitted",
        /// The request is still in flight.
        InFlight = 12 => "still in flight",
        /// The request was cancelled.
        Cancelled = 13 => "cancelled",
        /// It took too long.
        TimedOut = 14 => "timed out",
        /// Memory ran out.
        OutOfMemory = 15 => "out of memory",
        /// The storage is full.
        NoSpace = 16 => "no space left",
        /// The hardware or the system reported an input/output error.
        Io = 17 => "input/output error",
        /// The device takes no more requests now.
        Busy = 18 => "busy",
        /// The other side went away.
        Disconnected = 19 => "disconnected",
        /// The storage can only be read.
        ReadOnly = 20 => "read-only",
        /// A directory where a file was expected.
        IsDirectory = 21 => "is a directory",
        /// Not every byte of the range was moved.
        Short = 22 => "only a part was moved",
        /// The data is damaged.
        Corrupt = 23 => "corrupt data",
        /// A length or position does not fit.
        TooLarge = 24 => "too large",
        /// The thing has no positions: a pipe, a socket, a terminal.
        NotSeekable = 25 => "not seekable",
        /// The device's driver ended while requests were in flight.
        DriverEnded = 26 => "the device's driver ended",
        /// The memory is not mapped.
        NotMapped = 27 => "not mapped",
        /// Too many of them at once.
        TooMany = 28 => "too many at once",
        /// A position or length is not a multiple of what the device needs.
        Misaligned = 29 => "not aligned to what the device needs",
        /// It is another version of it now than the one that was opened.
        Changed = 30 => "changed since it was opened",
    }
}

byte_enum! {
    /// With what something went wrong.
    Subject {
        /// Not said.
        Unspecified = 0 => "unspecified",
        /// A whole request.
        Packet = 1 => "packet",
        /// A range of a request.
        View = 2 => "view",
        /// The bytes of a request.
        Buffer = 3 => "buffer",
        /// The device.
        Device = 4 => "device",
        /// The device's driver.
        Driver = 5 => "driver",
        /// The backend that opens devices.
        Backend = 6 => "backend",
        /// The plugin.
        Plugin = 7 => "plugin",
        /// The name of what was opened.
        Target = 8 => "target",
        /// An option.
        Option = 9 => "option",
        /// A position.
        Position = 10 => "position",
    }
}

byte_enum! {
    /// How it was found.
    State {
        /// Not said.
        Unspecified = 0 => "unspecified",
        /// It is missing.
        Missing = 1 => "missing",
        /// It is not valid.
        Invalid = 2 => "invalid",
        /// It is outside what exists.
        Outside = 3 => "outside",
        /// It is closed.
        Closed = 4 => "closed",
        /// It is full.
        Full = 5 => "full",
        /// It was abandoned.
        Abandoned = 6 => "abandoned",
        /// It is in use.
        InUse = 7 => "in use",
    }
}

byte_enum! {
    /// Who says so.
    Location {
        /// Not said.
        Unspecified = 0 => "unspecified",
        /// The packet system.
        Sdk = 1 => "sdk",
        /// A plugin.
        Plugin = 2 => "plugin",
        /// The host.
        Host = 3 => "host",
        /// The operating system.
        System = 4 => "system",
    }
}

impl Error {
    /// The range lies past the end of the device.
    pub const END: Self = Self::new(Code::End, Subject::Position, State::Outside, Location::Plugin);
    /// The device cannot do this.
    pub const UNSUPPORTED: Self =
        Self::new(Code::Unsupported, Subject::Device, State::Unspecified, Location::Plugin);
    /// A view was dropped without an answer (rule 2).
    pub const UNANSWERED: Self = Self::new(Code::Unanswered, Subject::View, State::Abandoned, Location::Sdk);
    /// The device said that it was done, but moved only the first part.
    pub const SHORT: Self = Self::new(Code::Short, Subject::Buffer, State::Unspecified, Location::Sdk);
    /// The plugin panicked in this call.
    pub const PANICKED: Self = Self::new(Code::Panicked, Subject::Plugin, State::Unspecified, Location::Sdk);
    /// The plugin panicked in an earlier call.
    pub const POISONED: Self = Self::new(Code::Poisoned, Subject::Plugin, State::Closed, Location::Sdk);
    /// The packet was never handed to a device.
    pub const NOT_SUBMITTED: Self =
        Self::new(Code::NotSubmitted, Subject::Packet, State::Unspecified, Location::Sdk);
    /// The packet is in flight, its bytes cannot be touched now.
    pub const IN_FLIGHT: Self = Self::new(Code::InFlight, Subject::Packet, State::InUse, Location::Sdk);
    /// The device's driver ended while requests were in flight.
    pub const DRIVER_ENDED: Self =
        Self::new(Code::DriverEnded, Subject::Driver, State::Closed, Location::Plugin);
    /// Memory for a request could not be had.
    pub const OUT_OF_MEMORY: Self =
        Self::new(Code::OutOfMemory, Subject::Buffer, State::Unspecified, Location::Sdk);
    /// The request was cancelled.
    pub const CANCELLED: Self =
        Self::new(Code::Cancelled, Subject::Packet, State::Abandoned, Location::Plugin);
    /// The packet is complex: functions stand for its bytes, so there is no slice of them.
    pub const NO_BYTES: Self = Self::new(Code::Unsupported, Subject::Packet, State::Missing, Location::Sdk);
    /// A position or length is beyond what can be expressed.
    pub const TOO_LARGE: Self = Self::new(Code::TooLarge, Subject::Position, State::Outside, Location::Sdk);

    /// An error of four parts.
    ///
    /// ```
    /// use pactio_sdk::{Code, Error, Location, State, Subject};
    /// let error = Error::new(Code::Busy, Subject::Device, State::Full, Location::Plugin);
    /// assert_eq!(error.subject(), Subject::Device);
    /// ```
    pub const fn new(code: Code, subject: Subject, state: State, location: Location) -> Self {
        let code = match code.to_byte() {
            0 => Code::Failed.to_byte(),
            byte => byte,
        };
        let raw = u32::from_le_bytes([code, subject.to_byte(), state.to_byte(), location.to_byte()]);
        match NonZeroU32::new(raw) {
            Some(raw) => Self(raw),
            None => unreachable!(),
        }
    }

    /// An error of a plugin that needs no more than its code.
    pub const fn from_code(code: Code) -> Self {
        Self::new(code, Subject::Unspecified, State::Unspecified, Location::Plugin)
    }

    /// What went wrong.
    pub const fn code(self) -> Code {
        Code::from_byte(self.0.get().to_le_bytes()[0])
    }

    /// With what.
    pub const fn subject(self) -> Subject {
        Subject::from_byte(self.0.get().to_le_bytes()[1])
    }

    /// How it was found.
    pub const fn state(self) -> State {
        State::from_byte(self.0.get().to_le_bytes()[2])
    }

    /// Who says so.
    pub const fn location(self) -> Location {
        Location::from_byte(self.0.get().to_le_bytes()[3])
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Code::Unknown(byte) => write!(f, "error code {byte}, unknown to this version of pactio"),
            code => f.write_str(code.text()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.code())
            .field("subject", &self.subject())
            .field("state", &self.state())
            .field("location", &self.location())
            .finish()
    }
}

impl core::error::Error for Error {}

#[cfg(feature = "std")]
impl From<std::io::Error> for Error {
    /// Keeps the kind of the error. Numbers of the operating system do not cross the ABI, since the two sides need
    /// not agree on them.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::PermissionDenied => Code::PermissionDenied,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::InvalidInput => Code::InvalidInput,
            Kind::Unsupported => Code::Unsupported,
            Kind::UnexpectedEof => Code::End,
            Kind::TimedOut => Code::TimedOut,
            Kind::OutOfMemory => Code::OutOfMemory,
            Kind::StorageFull | Kind::QuotaExceeded => Code::NoSpace,
            Kind::ResourceBusy | Kind::WouldBlock => Code::Busy,
            Kind::BrokenPipe | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::NotConnected => {
                Code::Disconnected
            }
            Kind::ReadOnlyFilesystem => Code::ReadOnly,
            Kind::IsADirectory => Code::IsDirectory,
            Kind::NotSeekable => Code::NotSeekable,
            Kind::FileTooLarge => Code::TooLarge,
            Kind::InvalidData => Code::Corrupt,
            _ => Code::Io,
        };
        Self::new(code, Subject::Unspecified, State::Unspecified, Location::System)
    }
}

#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Kind;
        let kind = match error.code() {
            Code::NotFound => Kind::NotFound,
            Code::PermissionDenied => Kind::PermissionDenied,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::InvalidInput => Kind::InvalidInput,
            Code::Unsupported => Kind::Unsupported,
            Code::End => Kind::UnexpectedEof,
            Code::TimedOut => Kind::TimedOut,
            Code::OutOfMemory => Kind::OutOfMemory,
            Code::NoSpace => Kind::StorageFull,
            Code::Busy => Kind::ResourceBusy,
            Code::Disconnected => Kind::BrokenPipe,
            Code::ReadOnly => Kind::ReadOnlyFilesystem,
            Code::IsDirectory => Kind::IsADirectory,
            Code::NotSeekable => Kind::NotSeekable,
            Code::TooLarge => Kind::FileTooLarge,
            Code::Corrupt => Kind::InvalidData,
            _ => Kind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn every_raw_value_decodes_and_comes_back() {
        for raw in [1, 0xff, 0x0100, 0xffff_ffff, 0x8000_0000, 0x0403_0201] {
            let error = Error::from_raw(raw).unwrap();
            assert_eq!(error.to_raw(), raw);
            assert!(!format!("{error} {error:?}").is_empty());
        }
        assert_eq!(Error::from_raw(0), None);
    }

    #[test]
    fn a_code_of_zero_is_never_made() {
        let error = Error::new(Code::Unknown(0), Subject::Packet, State::Full, Location::Sdk);
        assert_eq!(error.code(), Code::Failed);
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
            assert_eq!(std::io::Error::from(Error::from(std::io::Error::from(kind))).kind(), kind);
        }
    }
}
