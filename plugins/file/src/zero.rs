//! Ranges that read as zeros: by the system, without the bytes.

use std::ops::Range;

use pactio_sdk::{Answer, Code, IoError, Zero, ZeroMode};
use rustix::fs::{FallocateFlags, fallocate};

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
            // The system answers EOPNOTSUPP where it would have to write zeros.
            let zeroed = fallocate(&file, way, range.start, range.end - range.start);
            answer.result(zeroed.map_err(|errno| IoError::from(std::io::Error::from(errno))));
        });
    }
}
