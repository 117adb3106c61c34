//! Values of options: sizes and times in readable form.

use core::time::Duration;

/// Reads a number of bytes: hexadecimal (`0x1000`), or decimal, optionally with a unit of powers of 1024 (`KiB`, `K`) or 1000
/// (`kB`) and a fraction of that unit.
///
/// ```
/// assert_eq!(pactio_sdk::parse_size("1.5MiB"), Some(3 << 19));
/// assert_eq!(pactio_sdk::parse_size("0x1000"), Some(4096));
/// assert_eq!(pactio_sdk::parse_size("lots"), None);
/// ```
pub fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 14] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("B", 1),
    ];
    if let Some(digits) = text.strip_prefix("0x") {
        // `from_str_radix` alone would accept a sign.
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return u64::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
    }
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
        .unwrap_or((text, 1));
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let (whole, fraction) = number.split_once('.')?;
    if factor == 1
        || fraction.is_empty()
        || fraction.len() > 9
        || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let total = u128::from(whole.parse::<u64>().ok()?) * scale + fraction.parse::<u128>().ok()?;
    u64::try_from(total * u128::from(factor) / scale).ok()
}

/// Reads a time: a number with a unit of `ns`, `us`, `ms`, `s`, `min` or `h`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(pactio_sdk::parse_duration("1.5s"), Some(Duration::from_millis(1500)));
/// assert_eq!(pactio_sdk::parse_duration("5"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    let (number, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), factor)))?;
    let plain = number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    Duration::try_from_secs_f64(number.parse::<f64>().ok().filter(|_| plain)? * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_and_fractions() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("64 KiB", 65536),
            ("1.5GiB", 3 << 29),
            ("10MB", 10_000_000),
            ("2K", 2048),
            ("17B", 17),
            ("0x1F00", 0x1f00),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "-1", "1.5", "abc", "1.GiB", "99999999TiB", "1e3", "0x", "0x1G", "0x+1", "1.-5GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, time) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("2min", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("10us", Some(Duration::from_micros(10))),
            ("5", None),
            ("-1s", None),
            ("1e3s", None),
            ("s", None),
            ("infs", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(parse_duration(text), time, "{text}");
        }
    }
}
