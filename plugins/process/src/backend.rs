//! Opens processes.

use pactio_sdk::{Backend, IoError, OpenError, OpenMode, OpenRequest};

use crate::device::{Memory, ProcessDevice};
use crate::target::{self, Target};

/// The backend.
pub(crate) struct Processes;

impl Backend for Processes {
    type Device = ProcessDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<ProcessDevice, OpenError> {
        let target = Target::find(request.target())?;
        let memory = match request.size_option("own")? {
            None => Memory::All,
            Some(_) if !target.is_self() => {
                return Err(OpenError::invalid_input("only process:self can make memory of its own"));
            }
            Some(size) => Memory::own(size as usize).ok_or_else(|| {
                OpenError::new(IoError::OUT_OF_MEMORY, format!("{size} bytes of memory cannot be had"))
            })?,
        };
        let write = request.mode().contains(OpenMode::WRITE);
        if write && target.is_self() && matches!(memory, Memory::All) {
            return Err(OpenError::new(
                IoError::UNSUPPORTED,
                "a program cannot write to its own memory this way; process:self?own=SIZE can be written",
            ));
        }
        target::check_permission(&target)?;
        Ok(ProcessDevice::new(target, memory, write))
    }
}
