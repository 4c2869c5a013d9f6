//! What the three programs share: how a request is told apart, arguments, clock, open files.
//!
//! Every request of a benchmark carries a **marker**, `[#123]`, somewhere in its prompt, and every
//! answer begins with the marker of its own request. So an answer joined to the wrong request is
//! seen by whoever reads it, and the server can count what was asked twice.

use std::io;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;

/// Markers from this number on are not told apart: the server keeps one byte for each.
pub const MARKERS: u32 = 1 << 26;

const CONTENT: &[u8] = b"\"content\":\"";

/// The number in the first marker of `text`; None without one, or for one not below [`MARKERS`].
pub fn find_marker(text: &[u8]) -> Option<u32> {
    let start = memmem::find(text, b"[#")? + 2;
    let mut number: u32 = 0;
    for (at, &byte) in text.get(start..)?.iter().enumerate() {
        match byte {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?,
            b']' if at > 0 => return (number < MARKERS).then_some(number),
            _ => return None,
        }
    }
    None
}

/// Whether the text of a chat completion begins with the marker `number`.
///
/// The body is searched, not parsed: this is the least that a client can do with an answer.
pub fn answers(body: &[u8], number: u32) -> bool {
    memmem::find(body, CONTENT)
        .and_then(|at| body.get(at + CONTENT.len()..))
        .is_some_and(|text| text.starts_with(b"[#") && find_marker(text) == Some(number))
}

/// Seconds since 1970, as Python's `time.time()` gives them.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The value of `--name value` among the program's arguments, or `default`.
///
/// # Errors
/// A sentence, for a value that is missing or does not parse.
pub fn argument<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == name {
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            return value.parse().map_err(|_| format!("{name} cannot be {value:?}"));
        }
    }
    Ok(default)
}

/// Raise the soft limit of open files to the hard one: thousands of connections need it.
///
/// # Errors
/// What the system says.
pub fn raise_open_files() -> io::Result<()> {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(io::Error::from)
}

/// `http://host:port/path` in its two parts, `host:port` and `/path` (without a slash at its end).
///
/// # Errors
/// A sentence, for anything else: TLS is not what is measured here.
pub fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    Ok(rest.find('/').map_or((rest, ""), |at| (&rest[..at], rest[at..].trim_end_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::{answers, find_marker, split_url};

    #[test]
    fn a_marker_is_found_wherever_it_stands() {
        assert_eq!(find_marker(b"{\"content\":\"[#12] words\"}"), Some(12));
        assert_eq!(find_marker(b"no marker"), None);
        assert_eq!(find_marker(b"[#]"), None);
        assert_eq!(find_marker(b"[#12"), None);
        assert_eq!(find_marker(b"[#99999999999]"), None);
    }

    #[test]
    fn an_answer_to_another_request_is_seen() {
        let body = br#"{"message":{"content":"[#7] words"}}"#;
        assert!(answers(body, 7));
        assert!(!answers(body, 8));
        assert!(!answers(br#"{"content":"words [#7]"}"#, 7));
    }

    #[test]
    fn a_url_has_two_parts() {
        assert_eq!(split_url("http://a:1/v1/"), Ok(("a:1", "/v1")));
        assert_eq!(split_url("http://a:1"), Ok(("a:1", "")));
        assert!(split_url("https://a").is_err());
    }
}
