//! Core files, made byte by byte.

/// A part of memory: address, size in memory, flags, bytes in the file.
pub type Part<'a> = (u64, u64, u32, &'a [u8]);

/// The physical address of a part, as in dumps of kernels: the same memory may be at several virtual addresses.
fn physical(address: u64) -> u64 {
    0x1_0000_0000 + (address & 0x0fff_ffff)
}

/// A core file of 64 bits, lowest byte first, with a note that names the file that was mapped at the first part.
pub fn core_file(kind: u16, parts: &[Part<'_>]) -> Vec<u8> {
    let count = parts.len() + 1;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let put = |file: &mut Vec<u8>, bytes: &[u8]| file.extend_from_slice(bytes);
    put(&mut file, &kind.to_le_bytes());
    put(&mut file, &62u16.to_le_bytes());
    put(&mut file, &1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        put(&mut file, &word.to_le_bytes());
    }
    put(&mut file, &0u32.to_le_bytes());
    for half in [64u16, 56, count as u16, 64, 0, 0] {
        put(&mut file, &half.to_le_bytes());
    }
    let mut description = Vec::new();
    for word in [1, 4096, parts[0].0, parts[0].0.wrapping_add(parts[0].1), 0] {
        put(&mut description, &word.to_le_bytes());
    }
    put(&mut description, b"/usr/lib/a file\0");
    let mut note = Vec::new();
    for word in [5u32, description.len() as u32, 0x4649_4c45] {
        put(&mut note, &word.to_le_bytes());
    }
    put(&mut note, b"CORE\0\0\0\0");
    put(&mut note, &description);
    let mut offset = (64 + 56 * count) as u64;
    let mut header = |kind: u32, flags: u32, address: u64, in_file: u64, in_memory: u64| {
        let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        for word in [offset, address, physical(address), in_file, in_memory, 0] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        offset += in_file;
        header
    };
    let mut headers = header(4, 4, 0, note.len() as u64, 0);
    for (address, size, flags, bytes) in parts {
        headers.extend(header(1, *flags, *address, bytes.len() as u64, *size));
    }
    put(&mut file, &headers);
    put(&mut file, &note);
    parts.iter().for_each(|(.., bytes)| file.extend_from_slice(bytes));
    file
}
