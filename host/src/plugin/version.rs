//! ABI versions: a plugin has one, and needs one of its host.
//!
//! | plugin | host 1.2 |
//! |--------|----------|
//! | 1.0 to 1.2 | loads it |
//! | 1.5 that needs 1.1 | loads it, and leaves out the additions of 1.3 to 1.5 |
//! | 1.5 that needs 1.4 | refuses it |
//! | another major version | refuses it |

use std::fmt;

use pactio_sdk::abi::{ABI_MAJOR, ABI_MINOR};

use super::refusal::REBUILD;
use super::{Refusal, RefusalKind};

/// A version of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AbiVersion(pub(super) u16, pub(super) u16);

/// The version of this host.
const OWN: AbiVersion = AbiVersion(ABI_MAJOR, ABI_MINOR);

impl AbiVersion {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        Some(Self(number(major)?, number(minor)?))
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Checks the version that a plugin has, and the one that it needs; without the latter, it needs its own version.
pub(super) fn check(version: &str, needed: Option<&str>) -> Result<(), Refusal> {
    let refusal =
        |field, found: &str| Refusal::differs(RefusalKind::AbiVersion, field, found, OWN.to_string());
    let newer = "use it with a newer host, or rebuild it with the pactio-sdk or the plugin.h of this one";
    let Some(has) = AbiVersion::parse(version) else {
        return Err(refusal("ABI version", version).with_remedy(REBUILD));
    };
    if has.0 != OWN.0 {
        let remedy = if has > OWN { newer } else { REBUILD };
        return Err(refusal("ABI version", version).with_remedy(remedy));
    }
    let Some(text) = needed else {
        return if has <= OWN { Ok(()) } else { Err(refusal("ABI version", version).with_remedy(newer)) };
    };
    match AbiVersion::parse(text) {
        Some(needs) if needs.0 == OWN.0 && needs <= OWN && needs <= has => Ok(()),
        Some(needs) if needs > OWN => Err(refusal("needed ABI version", text).with_remedy(newer)),
        _ => Err(refusal("needed ABI version", text).with_remedy(REBUILD)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_up_to_that_of_the_host_are_taken() {
        let taken = |version: &str, needed| check(version, needed).is_ok();
        let later = format!("{ABI_MAJOR}.{}", ABI_MINOR + 3);
        let own = OWN.to_string();
        let first = format!("{ABI_MAJOR}.0");
        for (version, needed, expected) in [
            (&*own, None, true),
            (&*own, Some(&*own), true),
            (&*first, None, true),
            (&*later, None, false),
            (&*later, Some(&*own), true),
            (&*later, Some(&*first), true),
            (&*later, Some(&*later), false),
            (&*first, Some("0.9"), false),
            (&*own, Some(""), false),
            (&*own, Some("1"), false),
            (&*own, Some("1.x"), false),
            (&*own, Some("+1.0"), false),
            (&*own, Some("1.99999"), false),
            ("0.5", None, false),
            ("0.5", Some(&*own), false),
            ("2.0", Some(&*own), false),
            ("", None, false),
            ("1.-0", None, false),
        ] {
            assert_eq!(taken(version, needed), expected, "{version:?} {needed:?}");
        }
    }
}
