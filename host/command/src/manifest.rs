//! `pactio manifest`
//!
//! ```text
//!  file:  header | ... as it is ... | manifest | names of sections, one more | table of sections, one more
//!           └─────────────────────────────────────────────────────────────────►┘
//! ```

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use pactio::{Candidate, Outcome};
use tempfile::NamedTempFile;

use super::failure::Failure;

#[derive(clap::Subcommand)]
pub(super) enum Manifest {
    /// Put a manifest into a library whose language has no sections. The file is replaced.
    Embed(Embed),
}

#[derive(clap::Args)]
pub(super) struct Embed {
    /// The library: ELF of 64 bits, little-endian.
    #[arg(value_hint = ValueHint::FilePath)]
    library: PathBuf,

    /// The manifest: JSON, the same bytes as those of the library's entry.
    #[arg(value_hint = ValueHint::FilePath)]
    manifest: PathBuf,

    /// Write this file, and leave the library as it is.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

pub(super) fn run(command: &Manifest) -> Result<(), Failure> {
    let Manifest::Embed(Embed { library, manifest, output }) = command;
    let read = |path: &Path| {
        fs::read(path).map_err(|error| Failure::new(format!("cannot read '{}': {error}", path.display())))
    };
    let (bytes, text) = (read(library)?, read(manifest)?);
    let embedded = embed(bytes, text.trim_ascii_end())
        .map_err(|reason| Failure::new(format!("'{}' {reason}", library.display())))?;
    // A link stays, and the file that it leads to is replaced.
    let place = match output {
        Some(output) => output.clone(),
        None => fs::canonicalize(library).unwrap_or_else(|_| library.clone()),
    };
    let cannot = |error| Failure::new(format!("cannot write '{}': {error}", place.display()));
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = NamedTempFile::new_in(folder).map_err(cannot)?;
    new.write_all(&embedded).map_err(cannot)?;
    let mode = fs::metadata(library).map_err(cannot)?.permissions();
    fs::set_permissions(new.path(), mode).map_err(cannot)?;
    // A library that no host takes would only be noticed later.
    if let Outcome::Refused(refusal) = Candidate::of_file(new.path()).outcome() {
        let text = format!("with this manifest, '{}' would be refused: {refusal}", library.display());
        return Err(Failure::refused(text).with_hint("nothing was written"));
    }
    new.persist(&place).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// The name of the section.
const SECTION: &[u8] = b".pactio\0";

/// Length of a header of a section.
const HEADER: usize = 64;

/// The library with one more section at its end. All other bytes keep their positions.
fn embed(mut file: Vec<u8>, manifest: &[u8]) -> Result<Vec<u8>, &'static str> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return Err("is no ELF file of 64 bits, little-endian");
    }
    let broken = "is cut off or damaged";
    let table = u64_at(&file, 0x28).ok_or(broken)? as usize;
    let (size, count) = (u16_at(&file, 0x3a).ok_or(broken)?, u16_at(&file, 0x3c).ok_or(broken)?);
    if count >= 0xfeff {
        return Err("has too many sections");
    }
    let of_names = u16_at(&file, 0x3e).ok_or(broken)? as usize;
    if count == 0 || usize::from(size) != HEADER {
        return Err("has no table of sections: it was stripped too far");
    }
    let len = usize::from(count) * HEADER;
    let mut headers = file.get(table..table.checked_add(len).ok_or(broken)?).ok_or(broken)?.to_vec();
    let header = headers.get(of_names * HEADER..(of_names + 1) * HEADER).ok_or(broken)?;
    let (start, len) =
        (u64_at(header, 24).ok_or(broken)? as usize, u64_at(header, 32).ok_or(broken)? as usize);
    let mut names = file.get(start..start.checked_add(len).ok_or(broken)?).ok_or(broken)?.to_vec();
    let begins = |at: usize| at == 0 || names[at - 1] == 0;
    if names.windows(SECTION.len()).enumerate().any(|(at, name)| name == SECTION && begins(at)) {
        return Err("has a manifest already");
    }
    let name = names.len() as u32;
    names.extend(SECTION);
    let at_manifest = append(&mut file, manifest);
    let at_names = append(&mut file, &names);
    let header = &mut headers[of_names * HEADER..(of_names + 1) * HEADER];
    header[24..32].copy_from_slice(&at_names.to_le_bytes());
    header[32..40].copy_from_slice(&(names.len() as u64).to_le_bytes());
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&name.to_le_bytes());
    // Bytes of the program, which are not loaded.
    header[4..8].copy_from_slice(&1u32.to_le_bytes());
    header[24..32].copy_from_slice(&at_manifest.to_le_bytes());
    header[32..40].copy_from_slice(&(manifest.len() as u64).to_le_bytes());
    header[48..56].copy_from_slice(&1u64.to_le_bytes());
    headers.extend(header);
    let at_table = append(&mut file, &headers);
    file[0x28..0x30].copy_from_slice(&at_table.to_le_bytes());
    file[0x3c..0x3e].copy_from_slice(&(count + 1).to_le_bytes());
    Ok(file)
}

/// Adds bytes behind the file, and gives their place.
fn append(file: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    file.resize(file.len().next_multiple_of(8), 0);
    let at = file.len() as u64;
    file.extend(bytes);
    at
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_cut_off_or_changed_are_refused_or_embedded() {
        let file = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(embed(b"#!/bin/sh".to_vec(), b"{}").is_err());
        let with = embed(file.clone(), b"{}").unwrap();
        assert!(with.len() > file.len() && with[0x40..file.len()] == file[0x40..]);
        assert_eq!(embed(with, b"{}"), Err("has a manifest already"));
        // The header alone has all that is read first.
        for len in 0..0x80 {
            assert!(embed(file[..len].to_vec(), b"{}").is_err(), "{len}");
        }
        let mut small = file[..0x40].to_vec();
        let mut random = fastrand::Rng::with_seed(1);
        small.resize(4096, 0);
        for _ in 0..100_000 {
            let mut changed = small.clone();
            for _ in 0..4 {
                changed[random.usize(0x20..0x40)] = random.u8(..);
            }
            // No panic.
            let _ = embed(changed, b"{}");
        }
    }
}
