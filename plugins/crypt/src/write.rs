//! Writes send encrypted copies. The caller's bytes are never changed.

use std::sync::Arc;

use pactio_blocks::{Blocks, fail_whole_blocks};
use pactio_sdk::{BoundPacketView, Cause, Code, DerivedPacket, IoError, PacketIo, PooledBytes, Read, Write};

use crate::device::Encrypted;
use crate::exclusion::Hold;

/// Answers a write: whole blocks are encrypted into buffers; a block of which a part is written is read first.
pub(crate) fn write(this: &Arc<Encrypted>, position: u64, view: BoundPacketView<Read>) {
    let unit = this.reader.blocks().unit() as u64;
    // No device has a block that ends past the last position.
    let stop =
        position.checked_add(view.len() as u64).filter(|stop| stop.checked_next_multiple_of(unit).is_some());
    let Some(stop) = stop else { return view.error(IoError::END) };
    let (first, last) = (position.next_multiple_of(unit).min(stop), stop - stop % unit);
    if first > last {
        return part(this, position, view);
    }
    let (head, rest) = view.split_at((first - position) as usize);
    let (mut whole, tail) = rest.split_at((last - first) as usize);
    for (position, view) in [(position, head), (last, tail)] {
        if view.is_empty() { view.accept().complete() } else { part(this, position, view) }
    }
    let mut at = first;
    while !whole.is_empty() {
        let (front, behind) = whole.split_at(this.reader.buffer_len());
        let start = at;
        (at, whole) = (at + front.len() as u64, behind);
        let weak = Arc::downgrade(this);
        this.exclusion.enter(start / unit..at / unit, false, move |hold| {
            let Some(this) = weak.upgrade() else { return };
            blocks(&this, start, front, hold);
        });
    }
    whole.accept().complete();
}

/// Writes whole blocks that fit into a buffer.
fn blocks(this: &Encrypted, position: u64, view: BoundPacketView<Read>, hold: Hold) {
    let unit = this.reader.blocks().unit();
    let copied =
        this.reader.buffer(view.len()).and_then(|mut bytes| view.copy_to(&mut bytes).map(|()| bytes));
    let mut bytes = match copied {
        Ok(bytes) => bytes,
        Err(error) => return view.error(error),
    };
    this.reader.blocks().encrypt(position / unit as u64, &mut bytes);
    send(this, position, view, bytes, hold);
}

/// Sends encrypted blocks, and answers `view`, which begins with their first byte or lies in the only block.
fn send(this: &Encrypted, position: u64, view: BoundPacketView<Read>, bytes: PooledBytes, hold: Hold) {
    let unit = this.reader.blocks().unit();
    // If memory cannot be allocated, the view has failed already.
    let Ok(mut derived) = DerivedPacket::<_, Read, Read>::new(view, bytes) else { return };
    let Ok(fresh) = derived.bind() else { return };
    derived.on_complete(move |derived| {
        let Ok((view, _, mut report)) = derived.into_parts() else { return };
        // A block that was written only in part does not decrypt.
        fail_whole_blocks(&mut report, unit);
        // The next write of these blocks may begin before the requester gets the answer.
        drop(hold);
        report.answer_write(0, view);
    });
    this.reader.lower().send_io(position, fresh);
}

/// Writes a part of a block: reads the block, and has exclusive access to it until it is written.
fn part(this: &Arc<Encrypted>, position: u64, view: BoundPacketView<Read>) {
    let unit = this.reader.blocks().unit() as u64;
    let (block, weak) = (position / unit, Arc::downgrade(this));
    this.exclusion.enter(block..block + 1, true, move |hold| {
        let Some(this) = weak.upgrade() else { return };
        let buffer = match this.reader.buffer(unit as usize) {
            Ok(buffer) => buffer,
            Err(error) => return view.error(error),
        };
        let Ok(mut derived) = DerivedPacket::<_, Write, Read>::new(view, buffer) else { return };
        let Ok(fresh) = derived.bind() else { return };
        derived.on_complete(move |derived| {
            let Ok((view, mut bytes, report)) = derived.into_parts() else { return };
            let Some(this) = weak.upgrade() else { return view.error(IoError::CANCELLED) };
            if let Some((_, cause)) = report.min_cause() {
                return view.fail(&explained(cause, unit));
            }
            let (cipher, start) = (this.reader.blocks(), (position % unit) as usize);
            let end = start + view.len();
            let changed = cipher
                .decode(block, &mut bytes)
                .and_then(|()| view.copy_to(&mut bytes[start..end]).map_err(Cause::from));
            if let Err(cause) = changed {
                return view.fail(&cause);
            }
            cipher.encrypt(block, &mut bytes);
            send(&this, block * unit, view, bytes, hold);
        });
        this.reader.lower().send_io(block * unit, fresh);
    });
}

/// Explains a failure past the end, where there is no block to change.
fn explained(cause: &Cause, unit: u64) -> Cause {
    match cause.error().code() {
        Code::END => Cause::new(
            cause.error(),
            format!(
                "an encrypted device ends with a whole block; write {unit} bytes past its end, or a multiple"
            ),
        ),
        _ => cause.clone(),
    }
}
