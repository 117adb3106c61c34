//! Attempts of a request: which failures are temporary, and the pause before the next attempt.
//!
//! ```text
//!  request ──► answered ────────────────────────────────────────────────► answer
//!     ▲   └──► busy, fault of the server, broken connection ──┬─ time left? ─► pause: full jitter, Retry-After
//!     └───────────────────────────────────────────────────────┴─ no ────────► Trouble, with the number of attempts
//! ```

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use pactio_sdk::{Code, IoError};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::failure::redacted;

/// The first pause is random, up to this; the bound of each later one is twice as long, up to the second value.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The bound of the pause after this number of failed attempts.
pub(crate) fn longest_pause(attempts: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSES.1)
}

/// A random pause after this number of failed attempts, so that many clients do not come back at the same time.
pub(crate) fn jittered(attempts: u32) -> Duration {
    Duration::from_nanos(fastrand::u64(0..=longest_pause(attempts).as_nanos() as u64))
}

/// Opening ends after this time if the server never answered: its address may be wrong.
const MAX_UNANSWERED_OPENING: Duration = Duration::from_secs(10);

/// A request that is sent again after this time is reported as an error.
const NOTICEABLE: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Set while a device is opened: an answer that does not come is then not waited for again.
    static OPENING: ();
}

/// Marks the requests of a future as those that open a device.
pub(crate) async fn opening<T>(requests: impl Future<Output = T>) -> T {
    OPENING.scope((), requests).await
}

/// A failure of a request, after its last attempt.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// The failure, with its class: temporary or permanent.
    pub(crate) error: IoError,
    text: String,
    /// The server sent an answer.
    answered: bool,
    /// The pause that the server asks for.
    pause: Option<Duration>,
    attempts: u32,
    elapsed: Duration,
}

impl Trouble {
    /// Most bytes of a server's explanation that are kept.
    pub(crate) const MAX_EXPLANATION_BYTES: usize = 4 << 10;

    /// A failure that is no failure of the connection.
    pub(crate) fn refused(error: IoError, text: String) -> Self {
        Self::new(error, text)
    }

    /// A failure that the server's answer states.
    pub(crate) fn answered(error: IoError, text: String) -> Self {
        Self { answered: true, ..Self::new(error, text) }
    }

    pub(crate) fn new(error: IoError, text: String) -> Self {
        Self { error, text, answered: false, pause: None, attempts: 0, elapsed: Duration::ZERO }
    }

    /// The failure for a status; `None` if the status says that the request was taken, or is wrong.
    pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let error = match status.as_u16() {
            429 | 503 => IoError::from_code(Code::BUSY),
            408 | 504 => IoError::from_code(Code::TIMED_OUT),
            501 | 505 => return None,
            507 => IoError::from_code(Code::NO_SPACE),
            500..=599 => IoError::from_code(Code::IO).temporary(),
            _ => return None,
        };
        let pause = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        Some(Self { answered: true, pause, ..Self::new(error, format!("the server answered {status}")) })
    }

    /// The failure for an error of the connection.
    pub(crate) fn of_connection(error: &(dyn std::error::Error + 'static), is_timeout: bool) -> Self {
        let mut text = error.to_string();
        let (mut is_final, mut source) = (false, error.source());
        while let Some(error) = source {
            // An error of TLS is the content of an error of the system.
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            is_final |= inner.is_some_and(|inner| inner.is::<rustls::Error>()) || error.is::<rustls::Error>();
            let more = error.to_string();
            // The name of the host does not exist, or a name server does not answer.
            is_final |= more.starts_with("dns error");
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = error.source();
        }
        let error = IoError::from_code(if is_timeout { Code::TIMED_OUT } else { Code::DISCONNECTED });
        Self::new(if is_final { error.permanent() } else { error }, redacted(&text))
    }

    pub(crate) fn permanent(self) -> Self {
        Self { error: self.error.permanent(), ..self }
    }

    /// Adds the text that the server sent.
    pub(crate) fn explain(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(&text[..text.len().min(Self::MAX_EXPLANATION_BYTES)]);
        if !text.trim().is_empty() {
            self.text = format!("{}: {}", self.text, redacted(&text));
        }
    }

    /// The pause before the next attempt; `None` if there is none.
    fn pause(&self, retry_for: Duration) -> Option<Duration> {
        // While a device is opened, an answer that never came may be due to a wrong address: it is not waited for twice, and
        // other failures without an answer have a shorter limit.
        let is_opening = OPENING.try_with(|()| ()).is_ok();
        if !self.error.is_temporary()
            || (is_opening && self.error.code() == Code::TIMED_OUT && !self.answered)
        {
            return None;
        }
        let pause = jittered(self.attempts).max(self.pause.unwrap_or_default());
        let limit =
            if is_opening && !self.answered { retry_for.min(MAX_UNANSWERED_OPENING) } else { retry_for };
        (self.elapsed + pause <= limit).then_some(pause)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.attempts > 1 {
            write!(f, ", also at attempt {} after {:.1?}", self.attempts, self.elapsed)?;
        }
        match self.pause {
            Some(pause) => write!(f, "; the server asks to wait for {pause:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Trouble {}

/// The value of a `Retry-After` header: seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    match value.trim().parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => {
            Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// Makes attempts until one succeeds, fails permanently, or the time is over.
pub(crate) async fn with_retries<T, F>(
    retry_for: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let start = Instant::now();
    let mut attempts = 0;
    loop {
        let mut trouble = match attempt().await {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        attempts += 1;
        (trouble.attempts, trouble.elapsed) = (attempts, start.elapsed());
        let Some(pause) = trouble.pause(retry_for) else { return Err(trouble) };
        // A program shows errors of plugins to its user, who has waited for a while.
        if trouble.elapsed + pause > NOTICEABLE {
            tracing::error!("{trouble}; the request is sent again in {pause:.1?}");
        } else {
            tracing::warn!("{trouble}; the request is sent again in {pause:.1?}");
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_a_pause() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let pause = retry_after(&later).unwrap();
        assert!((90..=100).contains(&pause.as_secs()), "{pause:?}");
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn pauses_are_random_bounded_and_at_least_what_the_server_asks_for() {
        let mut trouble = Trouble::of_status(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new()).unwrap();
        let long = Duration::from_secs(60);
        for attempts in 1..40 {
            trouble.attempts = attempts;
            let pauses: Vec<_> = (0..50).map(|_| trouble.pause(long).unwrap()).collect();
            let bound = longest_pause(attempts);
            assert!(pauses.iter().all(|pause| *pause <= bound), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause < bound / 2), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause > bound / 2), "{pauses:?}");
        }
        trouble.pause = Some(Duration::from_secs(20));
        assert_eq!(trouble.pause(long), Some(Duration::from_secs(20)));
        trouble.elapsed = Duration::from_secs(41);
        assert_eq!(trouble.pause(long), None, "the pause ends behind the time");
    }

    #[test]
    fn temporary_is_told_from_permanent() {
        for (status, temporary) in [
            (200, None),
            (400, None),
            (403, None),
            (404, None),
            (408, Some(true)),
            (412, None),
            (416, None),
            (429, Some(true)),
            (500, Some(true)),
            (501, None),
            (502, Some(true)),
            (503, Some(true)),
            (504, Some(true)),
            (505, None),
            (507, Some(false)),
            (599, Some(true)),
        ] {
            let trouble = Trouble::of_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
            assert_eq!(trouble.map(|trouble| trouble.error.is_temporary()), temporary, "{status}");
        }
    }
}
