//! The device that a copy reads: the part to copy, its holes, and whether it changed meanwhile.

use std::ops::Range as Positions;

use pactio::{Capability, Code, Device, Kind, Stat};

use crate::Range;
use crate::failure::Failure;

pub(super) struct Source {
    pub(super) device: Device,
    /// The metadata when the copy began.
    stat: Stat,
    /// The first position.
    pub(super) start: u64,
    /// The number of bytes, if it is known.
    pub(super) total: Option<u64>,
}

impl Source {
    /// A part of a device, if it exists and its first byte can be read.
    pub(super) async fn of(device: Device, range: Range) -> Result<Self, Failure> {
        let url = device.url();
        let stat = device.stat().await?;
        let Range { offset: start, length } = range;
        // Systems report a size of 0 for files that are made when they are read: their end is found by reading.
        let total = match device.size().filter(|&size| size > 0) {
            Some(size) => {
                let rest = size.checked_sub(start).ok_or_else(|| {
                    Failure::incomplete(format!(
                        "there is nothing at {start:#x} of '{url}'; it ends at {size:#x}"
                    ))
                })?;
                if let Some(length) = length.filter(|&length| length > rest) {
                    let text = format!("only {rest} of {length} bytes at {start:#x} of '{url}' exist");
                    return Err(Failure::incomplete(text));
                }
                Some(length.unwrap_or(rest))
            }
            None => length,
        };
        let this = Self { device, stat, start, total };
        this.refuse_unreadable().await?;
        Ok(this)
    }

    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Fails if the first byte cannot be read.
    async fn refuse_unreadable(&self) -> Result<(), Failure> {
        let (report, _) = self.device.read_at(self.start, vec![0; 1]).await?;
        match report.min_error() {
            Some((_, error)) if error.code() == Code::IS_DIRECTORY => Err(Failure::folder(self.device.url())),
            Some((_, error)) if error.code() != Code::END => Err(Failure::new(format!(
                "cannot read '{}' (plugin '{}'): {error}; the destination was not touched",
                self.device.url(),
                self.device.plugin().manifest().id
            ))),
            _ => Ok(()),
        }
    }

    /// The ranges that hold data, in order; all of it, unless the device is a file with holes, which read as zeros.
    pub(super) async fn data(&self) -> Result<Vec<Positions<u64>>, Failure> {
        let all = self.start..self.total.map_or(u64::MAX, |total| self.start.saturating_add(total));
        let has_holes = self.stat.kind == Some(Kind::FILE) && self.device.capabilities().has(Capability::MAP);
        if self.total.is_none() || !has_holes {
            return Ok(vec![all]);
        }
        let regions = self.device.regions().await?.into_iter().map(|region| region.range);
        let clipped = regions.map(|range| range.start.max(all.start)..range.end.min(all.end));
        Ok(clipped.filter(|range| !range.is_empty()).collect())
    }

    /// Fails if the device's bytes have changed since the copy began. A file that has grown is the same file; memory, and devices
    /// of the system, change all the time.
    ///
    /// What can be seen is the version, or else the size and the time of the last change.
    pub(super) async fn check_unchanged(&self) -> Result<(), Failure> {
        if self.stat.kind != Some(Kind::FILE) {
            return Ok(());
        }
        let now = self.device.stat().await?;
        let same_size = now.size == self.stat.size;
        let what = if now.version != self.stat.version {
            "it has another version"
        } else if now.size < self.stat.size {
            "it is shorter"
        } else if same_size && now.modified != self.stat.modified {
            "it was written"
        } else {
            return Ok(());
        };
        let url = self.device.url();
        Err(Failure::new(format!("'{url}' has changed while it was copied: {what}"))
            .with_hint("copy it again"))
    }
}
