//! `pactio hexdump`

use std::io::{self, BufWriter, Write};

use pactio::{Device, Host};

use serde_json::json;

use super::failure::{Failure, output_failed};
use super::given::GivenUrl;
use super::output::{Form, Output, hex};
use super::pieces::AroundHoles;
use super::stream::Stream;
use super::{Flow, Range, standard};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: GivenUrl,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    around: AroundHoles,
    /// Show lines that repeat the line before.
    #[arg(long)]
    no_squeezing: bool,
    #[command(flatten)]
    form: Form,
}

/// Bytes per line.
const WIDTH: usize = 16;

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    if arguments.around.is_set() {
        return around_holes(host, device, arguments);
    }
    let mut stream = Stream::new(host, device, arguments.range, arguments.flow);
    if arguments.form.is_json() {
        return as_json(host, &mut stream, arguments);
    }
    let output = standard::output().map_err(|error| output_failed(&error, None))?;
    let mut dump = Dump::new(BufWriter::new(output), arguments.range.offset, !arguments.no_squeezing);
    host.block_on(async {
        let result = loop {
            match stream.next().await {
                Ok(Some(block)) => {
                    dump.put(&block).map_err(|error| output_failed(&error, None))?;
                    stream.recycle(block);
                }
                Ok(None) => break stream.account(),
                Err(failure) => break Err(failure),
            }
        };
        dump.finish().map_err(|error| output_failed(&error, None))?;
        result
    })
}

/// Each line with its position.
fn as_json(host: &Host, stream: &mut Stream<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let (mut output, mut position) = (Output::new(arguments.form), arguments.range.offset);
    host.block_on(async {
        while let Some(block) = stream.next().await? {
            for line in block.chunks(WIDTH) {
                output.line(String::new, || json!({ "position": position, "bytes": hex(line) }))?;
                position += line.len() as u64;
            }
            stream.recycle(block);
        }
        output.flush()?;
        stream.account()
    })
}

/// Shows all bytes that can be read.
fn around_holes(host: &Host, device: Device, arguments: &Arguments) -> Result<(), Failure> {
    let mut pieces = arguments.around.pieces(host, device, arguments.range, arguments.flow)?;
    let mut lines = Output::new(arguments.form);
    let output = standard::output().map_err(|error| output_failed(&error, None))?;
    let mut dump = Dump::new(BufWriter::new(output), arguments.range.offset, !arguments.no_squeezing);
    host.block_on(async {
        while let Some(piece) = pieces.next().await? {
            for part in &piece.done {
                let (mut position, bytes) = (piece.position + part.start as u64, &piece.bytes[part.clone()]);
                if arguments.form.is_json() {
                    for line in bytes.chunks(WIDTH) {
                        lines.line(String::new, || json!({ "position": position, "bytes": hex(line) }))?;
                        position += line.len() as u64;
                    }
                } else {
                    let shown = dump.move_to(position).and_then(|()| dump.put(bytes));
                    shown.map_err(|error| output_failed(&error, None))?;
                }
            }
            pieces.recycle(piece);
        }
        lines.flush()?;
        if !arguments.form.is_json() {
            dump.finish().map_err(|error| output_failed(&error, None))?;
        }
        pieces.account()
    })
}

/// Lines in the form of `hexdump -C`.
struct Dump<W> {
    output: W,
    position: u64,
    squeeze: bool,
    line: Vec<u8>,
    last: Option<Vec<u8>>,
    squeezing: bool,
}

impl<W: Write> Dump<W> {
    fn new(output: W, position: u64, squeeze: bool) -> Self {
        Self { output, position, squeeze, line: Vec::with_capacity(WIDTH), last: None, squeezing: false }
    }

    /// Continues at a position, with a line of its own if bytes are missing before it.
    fn move_to(&mut self, position: u64) -> io::Result<()> {
        if position != self.position + self.line.len() as u64 {
            if !self.line.is_empty() {
                self.end_line()?;
            }
            (self.position, self.last, self.squeezing) = (position, None, false);
        }
        Ok(())
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (front, rest) = bytes.split_at(bytes.len().min(WIDTH - self.line.len()));
            self.line.extend_from_slice(front);
            bytes = rest;
            if self.line.len() == WIDTH {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        let full = self.line.len() == WIDTH;
        if full && self.squeeze && self.last.as_ref() == Some(&self.line) {
            if !self.squeezing {
                writeln!(self.output, "*")?;
                self.squeezing = true;
            }
        } else {
            self.squeezing = false;
            write!(self.output, "{:08x} ", self.position)?;
            for index in 0..WIDTH {
                let gap = if index % 8 == 0 { " " } else { "" };
                match self.line.get(index) {
                    Some(byte) => write!(self.output, "{gap}{byte:02x} ")?,
                    None => write!(self.output, "{gap}   ")?,
                }
            }
            let printable =
                |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
            writeln!(self.output, " |{}|", self.line.iter().map(printable).collect::<String>())?;
        }
        self.position += self.line.len() as u64;
        self.last = Some(std::mem::replace(&mut self.line, Vec::with_capacity(WIDTH)));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        if self.last.is_some() {
            writeln!(self.output, "{:08x}", self.position)?;
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(blocks: &[&[u8]], offset: u64) -> String {
        let mut text = Vec::new();
        let mut dump = Dump::new(&mut text, offset, true);
        blocks.iter().for_each(|block| dump.put(block).unwrap());
        dump.finish().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_are_those_of_hexdump_c() {
        assert_eq!(
            dump(&[b"0123456789", b"abcdef\n\xff"], 16),
            "00000010  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n\
             00000020  0a ff                                             |..|\n\
             00000022\n"
        );
    }

    #[test]
    fn repeated_lines_are_squeezed() {
        assert_eq!(
            dump(&[&[0; 64]], 0),
            "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000040\n"
        );
        assert_eq!(dump(&[], 0), "");
    }
}
