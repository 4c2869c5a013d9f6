//! When to try again: full-jitter exponential backoff, and what servers say about it.

use std::time::{Duration, SystemTime};

const FIRST: f64 = 0.25;
const LONGEST: f64 = 30.0;
/// What a server may ask us to wait at most.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A wait before attempt number `attempt` (1 is the second try); `random` is in [0, 1).
///
/// Full jitter (Brooker 2015): uniform between 0 and the bound that doubles.
pub fn backoff(attempt: u32, random: f64) -> Duration {
    let bound = (FIRST * f64::from(2u32.saturating_pow(attempt.saturating_sub(1).min(16)))).min(LONGEST);
    Duration::from_secs_f64(bound * random)
}

/// What `retry-after-ms` or `Retry-After` ask for; capped; None for nothing or nonsense.
pub fn retry_after(milliseconds: Option<&str>, seconds_or_date: Option<&str>, now: SystemTime) -> Option<Duration> {
    if let Some(wait) = milliseconds.and_then(|text| text.trim().parse::<f64>().ok()).and_then(|ms| sane(ms / 1000.0)) {
        return Some(wait);
    }
    let text = seconds_or_date?.trim();
    if let Ok(number) = text.parse::<f64>() {
        return sane(number);
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_WAIT))
}

fn sane(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
}

/// `x-ratelimit-reset-*`: "1s", "6m0s", "20ms", "1.5", "1h2m".
pub fn reset(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        // A large number is a moment (Unix seconds), which we do not try to read.
        return sane(number).filter(|_| number < 1e6);
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    sane(total)
}

/// A small generator for jitter (xorshift64*): nothing depends on its quality.
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Self {
        Jitter(seed | 1)
    }

    /// Uniform in [0, 1).
    pub fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_is_capped() {
        assert_eq!(backoff(1, 0.5), Duration::from_millis(125));
        assert_eq!(backoff(3, 0.5), Duration::from_millis(500));
        assert_eq!(backoff(60, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap();
        let read = |ms, s| retry_after(ms, s, now);
        assert_eq!(read(None, Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(read(Some("1500"), Some("9")), Some(Duration::from_millis(1500)));
        assert_eq!(read(None, Some("Fri, 20 Nov 2026 10:00:07 GMT")), Some(Duration::from_secs(7)));
        assert_eq!(read(None, Some("Fri, 20 Nov 2020 10:00:07 GMT")), Some(Duration::ZERO));
        assert_eq!(read(None, Some("1e9")), Some(LONGEST_WAIT));
        for nonsense in ["-3", "soon", "", "NaN"] {
            assert_eq!(read(None, Some(nonsense)), None, "{nonsense}");
        }
    }

    #[test]
    fn resets_as_providers_write_them() {
        assert_eq!(reset("6m0s"), Some(Duration::from_secs(360)).map(|d| d.min(LONGEST_WAIT)));
        assert_eq!(reset("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(reset("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(reset("1m2s"), Some(Duration::from_secs(62)));
        assert_eq!(reset("later"), None);
    }
}
