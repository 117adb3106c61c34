//! The regions of a process, from `/proc/PID/maps`.

use pactio_sdk::Region;
use rustix::fs::makedev;

/// Regions in order of their addresses; lines that are not understood are left out.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Region> {
    text.split(|byte| *byte == b'\n').filter_map(region)
}

/// `55d0c8f6a000-55d0c8f6c000 r-xp 00002000 fe:01 1835077    /usr/bin/cat`. A file name may have any byte in it.
fn region(line: &[u8]) -> Option<Region> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.as_bytes();
    let (offset, device, inode) = (word()?, word()?, word()?);
    let name = words.next().unwrap_or_default().trim_ascii_start();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let mut region = Region::new(number(start)?..number(end)?);
    region.readable = permissions.first() == Some(&b'r');
    region.writable = permissions.get(1) == Some(&b'w');
    region.executable = permissions.get(2) == Some(&b'x');
    region.shared = Some(permissions.get(3) == Some(&b's'));
    region.name = name.into();
    let (major, minor) = device.split_once(':')?;
    let inode = inode.parse::<u64>().ok()?;
    if inode != 0 {
        region.file = Some((makedev(number(major)? as u32, number(minor)? as u32), inode));
        region.file_offset = number(offset);
    }
    Some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let text = b"55d0c8f6a000-55d0c8f6c000 r-xp 00002000 fe:01 1835077                    /usr/bin/a b\n\
                    7ffe0b000000-7ffe0b021000 rw-p 00000000 00:00 0                          [stack]\n\
                    7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
                    nonsense\n\
                    ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let regions: Vec<_> = parse(text).collect();
        assert_eq!(regions.len(), 4);
        assert_eq!(
            (regions[0].name.to_str(), &regions[0].range),
            (Some("/usr/bin/a b"), &(0x55d0_c8f6_a000..0x55d0_c8f6_c000))
        );
        assert!(regions[0].readable && !regions[0].writable && regions[0].executable);
        assert_eq!(regions[0].file, Some((makedev(0xfe, 1), 1_835_077)));
        assert_eq!((regions[0].file_offset, regions[0].shared), (Some(0x2000), Some(false)));
        assert_eq!((regions[1].file, regions[1].file_offset), (None, None));
        assert!(regions[1].name == "[stack]" && regions[1].writable);
        assert!(regions[2].name.is_empty() && !regions[2].readable);
        assert_eq!(regions[3].range.end, 0xffff_ffff_ff60_1000);
    }
}
