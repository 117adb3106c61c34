//! A compressed file gives the same bytes block by block as in one call, wherever its input is cut; or neither succeeds.
#![no_main]
// The targets use only a part of the plugins' code.
#![allow(dead_code)]

#[path = "../../../plugins/archive/src/block.rs"]
mod block;
#[path = "../../../plugins/archive/src/codec.rs"]
mod codec;
#[path = "../../../plugins/archive/src/cursor.rs"]
mod cursor;

use codec::{Codec, Corrupt, Steps};
use cursor::{Coded, Cursor};
use libfuzzer_sys::fuzz_target;

/// Maximum size of the plain bytes.
const MAX_PLAIN_BYTES: usize = 1 << 16;

/// Valid compressed bytes: of several frames, if the codec has them.
fn pack(codec: Codec, plain: &[u8], frame: usize) -> Vec<u8> {
    match codec {
        Codec::Deflate => miniz_oxide::deflate::compress_to_vec(plain, (frame % 10) as u8),
        Codec::Zstd => {
            let packed = |frame| zstd::bulk::compress(frame, 1).expect("there is memory");
            plain.chunks(frame).flat_map(packed).collect()
        }
    }
}

/// The plain bytes up to the first invalid input.
fn unpack(codec: Codec, packed: &[u8]) -> Vec<u8> {
    let mut steps = Steps::new(codec).expect("there is memory");
    let (mut plain, mut consumed, mut produced) = (vec![0; MAX_PLAIN_BYTES], 0, 0);
    while let Ok(step) = steps.step(&packed[consumed..], &mut plain[produced..]) {
        consumed += step.consumed;
        produced += step.produced;
        if step.consumed + step.produced == 0 || (step.ended && codec == Codec::Deflate) {
            break;
        }
    }
    plain.truncate(produced);
    plain
}

/// Makes all blocks. The compressed bytes come in pieces, and a copy of the state continues where the codec can make one.
fn in_blocks(coded: &Coded, unit: u64, packed: &[u8], mut seed: u64) -> Result<Vec<u8>, Corrupt> {
    let (mut cursor, mut out, mut end) = (Cursor::new(coded.codec)?, Vec::new(), 0);
    while cursor.block() * unit < coded.size {
        let position = cursor.position() as usize;
        match cursor.make(coded, unit, &packed[position..end.max(position)])? {
            Some(block) => {
                out.extend_from_slice(block.bytes());
                cursor = cursor.fork().unwrap_or(cursor);
            }
            None => {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                end = packed.len().min(cursor.position() as usize + 1 + (seed >> 58) as usize);
            }
        }
    }
    Ok(out)
}

fuzz_target!(|bytes: &[u8]| {
    let [how, unit, seed, rest @ ..] = bytes else { return };
    let codec = if how & 1 == 0 { Codec::Deflate } else { Codec::Zstd };
    let mut packed = if how & 2 == 0 { rest.to_vec() } else { pack(codec, rest, 1 + usize::from(*unit / 2)) };
    // Other bytes may stand behind the compressed ones.
    if how & 4 > 0 {
        packed.extend([rest, &[*seed]].concat());
    }
    let mut plain = unpack(codec, &packed);
    // The stated size may be shorter or longer than the real one.
    match how >> 3 & 3 {
        1 => drop(plain.pop()),
        2 => plain.push(0),
        _ => {}
    }
    if plain.is_empty() {
        return;
    }
    let (size, crc) = (plain.len() as u64, crc32fast::hash(&plain));
    let coded = Coded { codec, packed: packed.len() as u64, size, crc };
    let blocks = in_blocks(&coded, 1 + u64::from(*unit), &packed, u64::from(*seed));
    let mut whole = vec![0; plain.len()];
    match (codec.whole(&packed, &mut whole, crc), blocks) {
        (Ok(()), Ok(blocks)) => assert!(blocks == whole && whole == plain, "{codec:?}"),
        (Err(_), Err(Corrupt)) => {}
        (Ok(()), Err(Corrupt)) => panic!("{codec:?} comes out whole only"),
        // The steps accept a deflate stream with a wrong code that no byte uses, but never produce other bytes.
        (Err(_), Ok(blocks)) => assert!(codec == Codec::Deflate && blocks == plain, "{codec:?}"),
    }
});
