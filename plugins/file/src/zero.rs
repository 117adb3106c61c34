//! Ranges that read as zeros: by the system, without the bytes.

use std::ops::Range;
use std::os::unix::fs::FileTypeExt;

use pactio_sdk::{Answer, Code, IoError, Zero, ZeroMode};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use crate::device::FileDevice;

impl Zero for FileDevice {
    fn zero(&self, range: Range<u64>, mode: ZeroMode, answer: Answer) {
        if self.is_published() {
            return answer.error(IoError::from_code(Code::READ_ONLY));
        }
        if self.size().is_none_or(|size| range.end > size) {
            return answer.error(IoError::END);
        }
        let way = match mode {
            ZeroMode::Keep => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            ZeroMode::Release => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        };
        let file = self.file.clone();
        self.pool.submit(move || {
            // For a disk, the kernel may write the zeros of this way itself.
            let is_disk = file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
            if is_disk && mode == ZeroMode::Keep {
                return answer.error(IoError::UNSUPPORTED);
            }
            let zeroed = retry_on_intr(|| fallocate(&file, way, range.start, range.end - range.start));
            answer.result(zeroed.map_err(|errno| match errno {
                // A part of a sector.
                Errno::INVAL if is_disk => IoError::UNSUPPORTED,
                errno => IoError::from(std::io::Error::from(errno)),
            }));
        });
    }
}
