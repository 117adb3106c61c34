//! Opens encrypted devices.

use std::fs;

use pactio_sdk::{Backend, OpenError, OpenRequest};
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::device::CryptDevice;

/// The filter.
pub(crate) struct Crypt;

impl Backend for Crypt {
    type Device = CryptDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<CryptDevice, OpenError> {
        let unit = request.size_option("block")?.unwrap_or(512);
        if !unit.is_power_of_two() {
            return Err(OpenError::invalid_input(format!("a block of {unit} bytes is no power of two")));
        }
        let cipher = Cipher::new(&key(request)?, unit as usize)?;
        let lower = request.lower()?;
        if let Some(size) = lower.info().size().filter(|size| size % unit != 0) {
            return Err(OpenError::invalid_input(format!(
                "the device below has {size} bytes, which are no whole blocks of {unit} bytes: it was not encrypted with this \
                 block size, or was cut"
            )));
        }
        Ok(CryptDevice::new(lower, cipher))
    }
}

/// The two keys of XTS, one after the other.
fn key(request: &OpenRequest<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    match (request.option("key-file"), request.option("key")) {
        (Some(path), None) => {
            let bytes = fs::read(path).map_err(|error| {
                let text = format!("the key file '{path}' cannot be read: {error}");
                OpenError::new(error.into(), text)
            })?;
            Ok(Zeroizing::new(bytes))
        }
        (None, Some(digits)) => {
            let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
            let pair = |pair: &[u8]| match *pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            };
            let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
            let text = "the key is not pairs of hexadecimal digits";
            bytes.map(Zeroizing::new).ok_or_else(|| OpenError::invalid_input(text))
        }
        (None, None) => Err(OpenError::invalid_input(
            "no key is given; make one with `head -c 64 /dev/urandom > disk.key` and give key-file=disk.key",
        )),
        (Some(_), Some(_)) => Err(OpenError::invalid_input("give key-file or key, and not both")),
    }
}
