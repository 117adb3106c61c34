//! AES-XTS over blocks, by their numbers.

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes256};
use pactio_blocks::Blocks;
use pactio_sdk::{Cause, OpenError};
use xts_mode::{Xts128, get_tweak_default};

/// The cipher of a device.
pub struct Cipher {
    keys: Keys,
    unit: usize,
}

enum Keys {
    Aes128(Box<Xts128<Aes128>>),
    Aes256(Box<Xts128<Aes256>>),
}

impl Cipher {
    /// The cipher for the two keys of XTS, one after the other.
    ///
    /// # Errors
    ///
    /// If the key has another length, or both halves are equal.
    pub fn new(key: &[u8], unit: usize) -> Result<Self, OpenError> {
        let (first, second) = key.split_at(key.len() / 2);
        let pair = |make: fn(&[u8], &[u8]) -> Option<Keys>| make(first, second);
        let keys = match key.len() {
            32 => pair(|first, second| {
                let key = |bytes| Aes128::new_from_slice(bytes).ok();
                Some(Keys::Aes128(Box::new(Xts128::new(key(first)?, key(second)?))))
            }),
            64 => pair(|first, second| {
                let key = |bytes| Aes256::new_from_slice(bytes).ok();
                Some(Keys::Aes256(Box::new(Xts128::new(key(first)?, key(second)?))))
            }),
            _ => None,
        };
        let Some(keys) = keys else {
            let text = format!("the key has {} bytes; AES-256 takes 64, AES-128 takes 32", key.len());
            return Err(OpenError::invalid_input(text));
        };
        // With equal keys, XTS leaks the data that it should hide.
        if first == second {
            return Err(OpenError::invalid_input(
                "both halves of the key are equal; make it of random bytes",
            ));
        }
        Ok(Self { keys, unit })
    }

    /// Encrypts whole blocks in place. `first` is the number of the first block.
    pub fn encrypt(&self, first: u64, bytes: &mut [u8]) {
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(self.unit)) {
            match &self.keys {
                Keys::Aes128(xts) => encrypt(xts, block, bytes),
                Keys::Aes256(xts) => encrypt(xts, block, bytes),
            }
        }
    }
}

impl Blocks for Cipher {
    fn unit(&self) -> usize {
        self.unit
    }

    fn end(&self) -> Option<u64> {
        None
    }

    fn decode(&self, block: u64, bytes: &mut [u8]) -> Result<(), Cause> {
        match &self.keys {
            Keys::Aes128(xts) => decrypt(xts, block, bytes),
            Keys::Aes256(xts) => decrypt(xts, block, bytes),
        }
        Ok(())
    }
}

// Out of line: within a larger function, the loop of the mode is a third slower.

#[inline(never)]
fn encrypt<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
    xts: &Xts128<C>,
    block: u64,
    bytes: &mut [u8],
) {
    xts.encrypt_sector(bytes, get_tweak_default(block.into()));
}

#[inline(never)]
fn decrypt<C>(xts: &Xts128<C>, block: u64, bytes: &mut [u8])
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    xts.decrypt_sector(bytes, get_tweak_default(block.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    /// Vectors 4 and 10 of IEEE 1619, of which the first 32 bytes are compared.
    #[test]
    fn the_vectors_of_the_standard_come_out() {
        let text: Vec<u8> = (0..512).map(|at| at as u8).collect();
        for (key, number, front) in [
            (
                "2718281828459045235360287471352631415926535897932384626433832795",
                0,
                "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
            ),
            (
                "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197\
                 169399375105820974944592",
                0xff,
                "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
            ),
        ] {
            let cipher = Cipher::new(&hex(key), 512).unwrap();
            let mut bytes = text.clone();
            cipher.encrypt(number, &mut bytes);
            assert_eq!(bytes[..32], hex(front));
            cipher.decode(number, &mut bytes).unwrap();
            assert_eq!(bytes, text);
        }
    }

    #[test]
    fn keys_that_protect_nothing_are_refused() {
        for (key, what) in [
            (vec![], "the key has 0 bytes; AES-256 takes 64, AES-128 takes 32"),
            (vec![1; 63], "the key has 63 bytes; AES-256 takes 64, AES-128 takes 32"),
            (vec![7; 64], "both halves of the key are equal; make it of random bytes"),
        ] {
            let error = Cipher::new(&key, 512).err().unwrap();
            assert_eq!(error.message(), what);
        }
    }
}
