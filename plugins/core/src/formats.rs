//! Dumps of other formats: known by their first bytes, and refused with the tool that converts them.

/// The format of a dump that is not read here, and the way to convert it.
pub(crate) fn refusal(front: &[u8]) -> Option<String> {
    let (format, advice) = FORMATS
        .iter()
        .find(|(magic, ..)| front.starts_with(magic))
        .map(|(_, format, advice)| (format, advice))?;
    Some(format!("it is {format}, which is not read here; {advice}"))
}

/// Magic bytes, format, advice.
const FORMATS: [(&[u8], &str, &str); 18] = [
    (b"DISKDUMP", "a compressed dump of diskdump", "read it with crash or drgn"),
    (b"MDMP", "a minidump", "`minidump-2-core FILE > core` writes an ELF core file"),
    (
        b"PAGEDU64",
        "a crash dump of Windows",
        "`vol -f FILE layerwriter` of volatility3 writes a raw image, for at= or map=",
    ),
    (
        b"PAGEDUMP",
        "a crash dump of Windows (32 bits)",
        "`vol -f FILE layerwriter` of volatility3 writes a raw image, for at= or map=",
    ),
    (b"hibr", "a hibernation file of Windows", "volatility3 reads it"),
    (b"HIBR", "a hibernation file of Windows", "volatility3 reads it"),
    (b"wake", "a hibernation file of Windows", "volatility3 reads it"),
    (b"WAKE", "a hibernation file of Windows", "volatility3 reads it"),
    (&[0xd0, 0xbe, 0xd2, 0xbe], "a snapshot of VMware", "`vmss2core -N FILE` writes an ELF core file"),
    (&[0xd1, 0xba, 0xd1, 0xba], "a snapshot of VMware", "`vmss2core -N FILE` writes an ELF core file"),
    (&[0xd2, 0xbe, 0xd2, 0xbe], "a snapshot of VMware", "`vmss2core -N FILE` writes an ELF core file"),
    (&[0xd3, 0xbe, 0xd2, 0xbe], "a snapshot of VMware", "`vmss2core -N FILE` writes an ELF core file"),
    (
        b"QEVM",
        "a saved machine of QEMU",
        "`dump-guest-memory FILE` in the monitor of QEMU writes an ELF core file",
    ),
    (
        b"LibvirtQemudSave",
        "a saved machine of libvirt",
        "`virsh dump --memory-only DOMAIN FILE` writes an ELF core file",
    ),
    (&[0xcf, 0xfa, 0xed, 0xfe], "a Mach-O file", "lldb reads core files of macOS"),
    (&[0xce, 0xfa, 0xed, 0xfe], "a Mach-O file", "lldb reads core files of macOS"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "compressed by xz", "`unxz -k FILE` decompresses it"),
    (b"PK\x03\x04", "a zip archive", "`| archive | /NAME | core` reads a dump inside of it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_formats_are_named_with_their_tool() {
        for (front, expected) in
            [(&b"PAGEDU64"[..], "volatility3"), (b"\xfd7zXZ\0", "unxz"), (b"PK\x03\x04", "| archive")]
        {
            assert!(refusal(front).is_some_and(|text| text.contains(expected)), "{front:?}");
        }
        assert!(refusal(b"\x7fELF").is_none() && refusal(b"").is_none() && refusal(&[0; 16]).is_none());
    }
}
