//! `pactio.limits/1`: the device does not take every request.

use super::Capability;

#[cfg(feature = "plugin")]
use super::extension::{RemoteExtension, guarded, of_size};
#[cfg(feature = "plugin")]
use crate::BackendDevice;

/// Tells which requests a device takes.
pub trait Limiting: Send + Sync {
    /// The limits. Called once, after opening.
    fn limits(&self) -> Limits;
}

impl Capability {
    /// [`Limiting`].
    pub const LIMITS: Self = Self::of_handling("pactio.limits/1", "limits");
}

with_table!(Limiting, LIMITS, LimitsTable);

/// The requests that a device takes, and the requests that it handles best. A host keeps to the limits, so that users of the
/// device need not.
///
/// ```
/// use pactio_sdk::Limits;
/// let limits = Limits::NONE.with_alignment(4096).with_largest(1 << 20);
/// assert!(limits.takes(8192, 4096));
/// assert!(!limits.takes(8192, 100) && !limits.takes(0, 1 << 21));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) alignment: u32,
    pub(crate) memory_alignment: u32,
    pub(crate) largest: u64,
    pub(crate) in_flight: u32,
    pub(crate) zero_copy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Limits {
    /// Every request is taken.
    pub const NONE: Self =
        Self { alignment: 1, memory_alignment: 1, largest: u64::MAX, in_flight: 0, zero_copy: false };

    /// Positions and lengths are multiples of `bytes`. A host reads whole units and returns a part; it refuses a write that does
    /// not fit.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a power of two.
    pub const fn with_alignment(mut self, bytes: u32) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two");
        self.alignment = bytes;
        self
    }

    /// Memory at an address that is a multiple of `bytes` is used without a copy.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a power of two.
    pub const fn with_memory_alignment(mut self, bytes: u32) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two");
        self.memory_alignment = bytes;
        self
    }

    /// No request has more than `bytes` bytes. A host splits larger requests.
    ///
    /// # Panics
    ///
    /// If `bytes` is less than the alignment.
    pub const fn with_largest(mut self, bytes: u64) -> Self {
        assert!(bytes >= self.alignment as u64, "a request has at least one unit of the alignment");
        self.largest = bytes;
        self
    }

    /// `count` requests in flight keep the device busy. The number is a recommendation; [`Admission`](super::Admission) gives a
    /// bound.
    pub const fn with_in_flight(mut self, count: u32) -> Self {
        self.in_flight = count;
        self
    }

    /// Bytes go from the device into the memory of the request, or the other way, without another copy.
    pub const fn with_zero_copy(mut self) -> Self {
        self.zero_copy = true;
        self
    }

    /// Positions and lengths are multiples of this.
    pub const fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Memory at multiples of this is used without a copy.
    pub const fn memory_alignment(&self) -> u32 {
        self.memory_alignment
    }

    /// The largest number of bytes of one request, if there is a limit.
    pub const fn largest(&self) -> Option<u64> {
        if self.largest == u64::MAX { None } else { Some(self.largest) }
    }

    /// The recommended number of requests in flight, if the device has one.
    pub const fn in_flight(&self) -> Option<u32> {
        if self.in_flight == 0 { None } else { Some(self.in_flight) }
    }

    /// Bytes are not copied on the way.
    pub const fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// The same limits without bounds, for a device that takes every request and turns it into requests that this device takes.
    #[must_use]
    pub const fn without_bounds(mut self) -> Self {
        self.alignment = 1;
        self.largest = u64::MAX;
        self
    }

    /// A request of `len` bytes at `position` is taken as it is.
    pub const fn takes(&self, position: u64, len: u64) -> bool {
        let unit = self.alignment as u64 - 1;
        len <= self.largest && position & unit == 0 && len & unit == 0
    }

    /// Every request is taken as it is.
    pub const fn takes_all(&self) -> bool {
        self.alignment == 1 && self.largest == u64::MAX
    }
}

/// ===== The function of a device that does not take every request =====
///
/// Any thread may call; the function does not unwind or block.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct LimitsTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Writes the limits, which stay the same for the device's life.
    pub limits: unsafe extern "C" fn(object: *const (), out: *mut RawLimits),
}

/// [`Limits`] as they cross the boundary.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct RawLimits {
    /// A power of two.
    pub alignment: u32,
    /// A power of two.
    pub memory_alignment: u32,
    /// The largest number of bytes of a request.
    pub largest: u64,
    /// 0 if there is no recommendation.
    pub in_flight: u32,
    /// 1 if bytes are not copied on the way.
    pub zero_copy: u32,
}

#[cfg(feature = "plugin")]
impl From<Limits> for RawLimits {
    fn from(limits: Limits) -> Self {
        let Limits { alignment, memory_alignment, largest, in_flight, zero_copy } = limits;
        Self { alignment, memory_alignment, largest, in_flight, zero_copy: zero_copy.into() }
    }
}

#[cfg(feature = "plugin")]
impl From<RawLimits> for Limits {
    /// A value that is not valid counts as no limit.
    fn from(raw: RawLimits) -> Self {
        let power = |number: u32| if number.is_power_of_two() { number } else { 1 };
        let alignment = power(raw.alignment);
        Self {
            alignment,
            memory_alignment: power(raw.memory_alignment),
            largest: if raw.largest < u64::from(alignment) { u64::MAX } else { raw.largest },
            in_flight: raw.in_flight,
            zero_copy: raw.zero_copy != 0,
        }
    }
}

#[cfg(feature = "plugin")]
struct TableOf<D>(D);

#[cfg(feature = "plugin")]
impl<D: BackendDevice> TableOf<D> {
    const TABLE: LimitsTable = LimitsTable { size: of_size::<LimitsTable>(), limits: limits::<D> };
}

#[cfg(feature = "plugin")]
unsafe extern "C" fn limits<D: BackendDevice>(object: *const (), out: *mut RawLimits) {
    // SAFETY: the object belongs to the table, and its device exists during the call.
    let device = unsafe { guarded::<D>(object) };
    let limits = device.with::<dyn Limiting, _>(|extension| extension.limits()).unwrap_or_default();
    // SAFETY: `out` is valid for a write.
    unsafe { out.write(limits.into()) };
}

#[cfg(feature = "plugin")]
impl Limiting for RemoteExtension<dyn Limiting> {
    fn limits(&self) -> Limits {
        let (object, table) = self.parts();
        let mut raw = core::mem::MaybeUninit::uninit();
        // SAFETY: the device exists, since `self` does, and the function writes `raw`.
        unsafe {
            (table.limits)(object, raw.as_mut_ptr());
            raw.assume_init().into()
        }
    }
}
