//! What is mapped where, from `/proc/PID/maps`.

use pactio_sdk::Region;

/// Regions in order of their addresses; lines that are not understood are left out.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = Region> {
    text.lines().filter_map(region)
}

/// `55d0c8f6a000-55d0c8f6c000 r-xp 00002000 fe:01 1835077    /usr/bin/cat`
fn region(line: &str) -> Option<Region> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?.as_bytes();
    let name = words.nth(3).unwrap_or_default().trim_start().to_owned();
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(Region {
        range: address(start)?..address(end)?,
        readable: permissions.first() == Some(&b'r'),
        writable: permissions.get(1) == Some(&b'w'),
        executable: permissions.get(2) == Some(&b'x'),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let text = "55d0c8f6a000-55d0c8f6c000 r-xp 00002000 fe:01 1835077                    /usr/bin/a b\n\
                    7ffe0b000000-7ffe0b021000 rw-p 00000000 00:00 0                          [stack]\n\
                    7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
                    nonsense\n\
                    ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let regions: Vec<_> = parse(text).collect();
        assert_eq!(regions.len(), 4);
        assert_eq!(
            (regions[0].name.as_str(), &regions[0].range),
            ("/usr/bin/a b", &(0x55d0_c8f6_a000..0x55d0_c8f6_c000))
        );
        assert!(regions[0].readable && !regions[0].writable && regions[0].executable);
        assert!(regions[1].name == "[stack]" && regions[1].writable);
        assert!(regions[2].name.is_empty() && !regions[2].readable);
        assert_eq!(regions[3].range.end, 0xffff_ffff_ff60_1000);
    }
}
