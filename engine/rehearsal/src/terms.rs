//! Pieces of prompts: lists within a sentence, headings, numbers, and JSON between words.

use serde_json::Value;

/// Items of a list are at most this long.
const LONGEST_ITEM: usize = 80;
const MOST_ITEM_WORDS: usize = 8;
const MOST_HEADING_WORDS: usize = 5;
/// Objects in a prompt that are looked at, at most.
const MOST_OBJECTS: usize = 8;

/// Capitals that shout but name nothing.
const NOT_HEADINGS: &[&str] = &[
    "ALL", "ALWAYS", "AND", "API", "BOTH", "CEO", "CSV", "DO", "EACH", "EXACTLY", "HTML", "HTTP", "JSON", "MUST", "NEVER", "NOT", "ONLY",
    "OR", "PDF", "SQL", "THE", "URL", "USA", "XML", "YAML", "YOU",
];

/// Items listed at the beginning of a text: a JSON array, lines with bullets or numbers, or words
/// between commas up to the sentence's end. Quotes around an item go.
pub(crate) fn listed(text: &str) -> Vec<String> {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    if text.starts_with('[') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Vec<String>>();
        if let Some(Ok(items)) = stream.next() {
            return items;
        }
    }
    if let Some(lines) = text.strip_prefix('\n') {
        let lines = lines.trim_start_matches(['\n', '\r']);
        return lines.lines().map_while(|line| bullet(line.trim())).map(unquote).collect();
    }
    split(&text[..item_end(text)])
}

/// What follows a bullet or a number at the beginning of a line.
fn bullet(line: &str) -> Option<&str> {
    if let Some(item) = line.strip_prefix(['-', '*', '\u{2022}']) {
        return Some(item.trim());
    }
    let item = line.trim_start_matches(|letter: char| letter.is_ascii_digit());
    (item.len() < line.len()).then(|| item.strip_prefix(['.', ')'])).flatten().map(str::trim)
}

/// The end of a list within a line: the end of its sentence or line, outside of quotes.
fn item_end(text: &str) -> usize {
    let mut quote = None;
    let mut letters = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|&(_, next)| next);
        match (quote, letter) {
            (Some(close), _) => {
                if letter == close {
                    quote = None;
                }
            }
            (None, '\n') => return at,
            (None, '.' | '!' | '?' | ';') if next.is_none_or(char::is_whitespace) => return at,
            (None, _) if !before.is_alphanumeric() => quote = closing(letter),
            (None, _) => {}
        }
        before = letter;
    }
    text.len()
}

const fn closing(open: char) -> Option<char> {
    match open {
        '"' => Some('"'),
        '\'' => Some('\''),
        '`' => Some('`'),
        '\u{201c}' => Some('\u{201d}'),
        '\u{2018}' => Some('\u{2019}'),
        _ => None,
    }
}

/// Cuts at commas, bars, and the words that join the last item; empty if that gives no list.
fn split(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut push = |item: &str| {
        let item = item.trim();
        let item = ["or ", "and ", "either "].iter().find_map(|word| item.strip_prefix(word)).unwrap_or(item);
        let item = unquote(item);
        if !item.is_empty() {
            items.push(item);
        }
    };
    let (mut from, mut at) = (0, 0);
    let mut quote = None;
    let mut before = ' ';
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        let mut skip = letter.len_utf8();
        if let Some(close) = quote {
            if letter == close {
                quote = None;
            }
        } else if matches!(letter, ',' | '|' | '/' | ';') {
            push(&text[from..at]);
            from = at + skip;
        } else if let Some(joint) = [" or ", " and "].into_iter().find(|joint| rest.starts_with(joint)) {
            push(&text[from..at]);
            from = at + joint.len();
            // The space behind stays before a quote that may follow.
            skip = joint.len();
        } else if !before.is_alphanumeric() {
            quote = closing(letter);
        }
        before = text[at..at + skip].chars().next_back().unwrap_or(' ');
        at += skip;
    }
    push(&text[from..]);
    let wild = |item: &String| item.len() > LONGEST_ITEM || item.split(' ').count() > MOST_ITEM_WORDS;
    if items.iter().any(wild) {
        items.clear();
    }
    items
}

fn unquote(item: &str) -> String {
    let item = item.trim().trim_matches(['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '*']);
    item.trim_matches(['(', ')', '[', ']', '.', ':', ' ']).to_owned()
}

/// Bytes up to the end of the sentence, or of the paragraph.
pub(crate) fn sentence_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .find(|&at| match bytes[at] {
            b'.' | b'!' | b'?' => bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace),
            b'\n' => bytes.get(at + 1).is_none_or(|next| *next == b'\n'),
            _ => false,
        })
        .unwrap_or(bytes.len())
}

/// Where the sentence that reaches to the end of `text` begins.
pub(crate) fn sentence_start(text: &str) -> usize {
    let bytes = text.as_bytes();
    (0..bytes.len()).rev().find(|&at| matches!(bytes[at], b'.' | b'!' | b'?' | b'\n')).map_or(0, |at| at + 1)
}

/// A part of a sentence that may name headings.
pub(crate) struct Sentence<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Sentence<'_> {
    /// Headings it names, with their places: in quotes, in capitals, or else as a list of words
    /// that begin with a capital.
    pub(crate) fn terms(&self) -> Vec<(usize, String)> {
        let quoted = self.quoted();
        if !quoted.is_empty() {
            return quoted;
        }
        let shouted = self.shouted();
        if !shouted.is_empty() {
            return shouted;
        }
        let rest = self.text[self.start..self.end].trim_start_matches(['s', 'S']).trim_start_matches([':', ' ', ',']);
        let from = self.end - rest.len();
        if !rest.starts_with(|letter: char| letter.is_uppercase()) {
            return Vec::new();
        }
        let named = |item: &String| item.starts_with(char::is_uppercase) && item.split(' ').count() <= MOST_HEADING_WORDS;
        split(rest).into_iter().take_while(named).enumerate().map(|(number, item)| (from + number, item)).collect()
    }

    fn quoted(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut at = self.start;
        let mut before = ' ';
        while at < self.end {
            let Some(letter) = self.text[at..self.end].chars().next() else { break };
            let inside = at + letter.len_utf8();
            if let Some(close) = closing(letter).filter(|_| !before.is_alphanumeric()) {
                if let Some(length) = self.text[inside..self.end].find(close) {
                    let term = self.text[inside..inside + length].trim();
                    if !term.is_empty() && term.split(' ').count() <= MOST_HEADING_WORDS {
                        found.push((at, term.to_owned()));
                    }
                    at = inside + length + close.len_utf8();
                    before = close;
                    continue;
                }
            }
            before = letter;
            at = inside;
        }
        found
    }

    /// Runs of words in capitals.
    pub(crate) fn shouted(&self) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut at = self.start;
        let mut last_end = usize::MAX;
        let inside = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '\'');
        while let Some(letter) = self.text[at..self.end].chars().next() {
            let rest = &self.text[at..self.end];
            let length = rest.find(|letter| !inside(letter)).unwrap_or(rest.len());
            let word = &rest[..length];
            let loud = |letter: char| letter.is_uppercase() || letter.is_ascii_digit() || letter == '_';
            if letter.is_uppercase() && length > 1 && word.chars().all(loud) {
                match found.last_mut() {
                    Some((_, term)) if at == last_end + 1 && self.text.as_bytes()[last_end] == b' ' => {
                        term.push(' ');
                        term.push_str(word);
                    }
                    _ => found.push((at, word.to_owned())),
                }
                last_end = at + length;
            }
            at += length.max(letter.len_utf8());
        }
        found.retain(|(_, term)| term.len() >= 3 && !NOT_HEADINGS.contains(&term.as_str()));
        found
    }
}

/// Whether the line that a text begins in ends with a colon.
pub(crate) fn ends_with_colon(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(line, _)| line.trim_end().ends_with(':'))
}

/// Lines below `from` that look like headings of an asked format: `## X`, `X:`, `CAPITALS`,
/// with nothing behind but a placeholder.
pub(crate) fn heading_lines(text: &str, from: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let Some(line_end) = text[from..].find('\n') else { return found };
    let mut at = from + line_end + 1;
    for line in text[at..].split('\n') {
        if let Some(heading) = heading_line(line.trim()) {
            found.push((at, heading));
        }
        at += line.len() + 1;
    }
    found
}

fn heading_line(line: &str) -> Option<String> {
    let few = |words: &str| !words.is_empty() && words.split(' ').count() <= MOST_HEADING_WORDS;
    if let Some(title) = line.strip_prefix('#') {
        return few(title.trim_start_matches('#').trim()).then(|| line.to_owned());
    }
    let (name, rest) = line.split_once(':').unwrap_or((line, ""));
    let rest = rest.trim().trim_matches('*').trim();
    let placeholder = rest.is_empty()
        || (rest.starts_with(['<', '[', '(', '{']) && rest.ends_with(['>', ']', ')', '}']))
        || rest.chars().all(|letter| matches!(letter, '.' | '\u{2026}' | '_'));
    let bare = plain(name);
    let loud = bare.len() >= 3 && bare.chars().all(|letter| letter.is_uppercase() || letter == ' ') && !NOT_HEADINGS.contains(&bare);
    let named = line.contains(':') && bare.starts_with(char::is_uppercase);
    (placeholder && few(bare) && (loud || named)).then(|| {
        if line.contains(':') {
            format!("{}:", name.trim())
        } else {
            name.trim().to_owned()
        }
    })
}

/// A heading without what decorates it.
pub(crate) fn plain(heading: &str) -> &str {
    heading.trim_matches(['#', '*', ':', ' ', '_'])
}

/// The words of a text, and of a text from its end.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

pub(crate) fn last_words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let end = bytes.iter().rposition(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())? + 1;
        let start = bytes[..end].iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |before| before + 1);
        let plain = start < end && (start == 0 || bytes[start - 1].is_ascii());
        // Other letters than those of ASCII take their time.
        let word =
            if plain { &rest[start..end] } else { rest.rsplit(|letter: char| !letter.is_alphanumeric()).find(|word| !word.is_empty())? };
        rest = &rest[..word.as_ptr() as usize - rest.as_ptr() as usize];
        Some(word)
    })
}

/// A number in digits or in words.
pub(crate) fn count(word: &str) -> Option<usize> {
    const NUMBERS: [&str; 12] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    match word {
        "single" => Some(1),
        "few" => Some(3),
        "dozen" => Some(12),
        _ => NUMBERS
            .iter()
            .position(|number| *number == word)
            .map(|at| at + 1)
            .or_else(|| word.parse().ok().filter(|&n| n > 0 && n <= 10_000)),
    }
}

/// The first range of numbers in a text: `0 to 4`, `1 and 10`, `1-5`, `out of 10`.
pub(crate) fn range(text: &str) -> Option<(i64, i64)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (low, end) = digits(text, at)?;
        let rest = &text[end..];
        let gap = [" to ", "-", " - ", "\u{2013}", " \u{2013} ", " and ", " through ", " up to ", ".."]
            .iter()
            .find(|gap| rest.starts_with(**gap));
        if let Some(gap) = gap {
            if let Some((high, _)) = digits(text, end + gap.len()) {
                let negative = at > 0 && bytes[at - 1] == b'-' && (at < 2 || bytes[at - 2] == b' ');
                return Some((if negative { -low } else { low }, high));
            }
        }
        if text[..at].ends_with("out of ") {
            return Some((0, low));
        }
        at = end;
    }
    None
}

/// The number whose digits begin at `at`, and where they end.
fn digits(text: &str, at: usize) -> Option<(i64, usize)> {
    let length = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    Some((text[at..at + length].parse().ok()?, at + length))
}

/// A JSON object within a text.
pub(crate) struct Object<'a> {
    pub(crate) value: Value,
    pub(crate) text: &'a str,
}

/// The JSON objects that stand in a text, in order; at most eight places are tried.
pub(crate) fn objects(text: &str) -> impl Iterator<Item = Object<'_>> {
    let mut at = 0;
    let mut tries = 0;
    std::iter::from_fn(move || loop {
        let start = at + text[at..].find('{')?;
        tries += 1;
        if tries > MOST_OBJECTS {
            return None;
        }
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        if let Some(Ok(value)) = stream.next() {
            at = start + stream.byte_offset();
            return Some(Object { value, text: &text[start..at] });
        }
        at = start + 1;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_the_end_are_those_of_any_language() {
        let words = |text| last_words(text).collect::<Vec<_>>();
        assert_eq!(words("At most two, short paragraphs. "), ["paragraphs", "short", "two", "most", "At"]);
        assert_eq!(words("naïve café — trois «mots»"), ["mots", "trois", "café", "naïve"]);
        assert_eq!(words(" ,. — "), [""; 0]);
        assert_eq!(words("zwölf2 x"), ["x", "zwölf2"]);
    }

    #[test]
    fn lists_end_with_their_sentence() {
        assert_eq!(listed(" a, b or c. And then, more."), ["a", "b", "c"]);
        assert_eq!(listed("'it. is', \u{201c}that\u{201d}\nnext, line"), ["it. is", "that"]);
        assert_eq!(listed("\n\n* one\n* two, three\nrest"), ["one", "two, three"]);
        assert_eq!(listed("v1.5, don't know, caf\u{e9}"), ["v1.5", "don't know", "caf\u{e9}"]);
        assert_eq!(listed("something that is much too long to be an item of a list, really"), [""; 0]);
    }

    #[test]
    fn ranges_are_read_in_many_forms() {
        for (text, range_) in [
            ("from 0 to 4", (0, 4)),
            ("between 1 and 10", (1, 10)),
            ("1-5", (1, 5)),
            ("1\u{2013}5", (1, 5)),
            ("-2 to 2", (-2, 2)),
            ("of 3 things out of 7", (0, 7)),
        ] {
            assert_eq!(range(text), Some(range_), "{text}");
        }
        assert_eq!(range("in 2024, or 7"), None);
        assert_eq!(range("99999999999999999999 to 3"), None);
    }

    #[test]
    fn objects_are_found_between_words() {
        let found: Vec<_> = objects("see {this} or {\"a\": {\"b\": 1}} and {\"c\": 2}.").map(|object| object.text).collect();
        assert_eq!(found, ["{\"a\": {\"b\": 1}}", "{\"c\": 2}"]);
    }

    #[test]
    fn nothing_in_a_prompt_breaks_the_reading() {
        // Every cut of a text with wide letters, quotes and braces, at every place.
        let text = "\u{201c}one of: \u{2018}a\u{2019}, \u{fc}\u{1f600} or 3-5\u{201d} ## X\n- \u{2022} {\"a\": [\n SECTIONS \u{c9}T\u{c9}: <\u{2026}> out of ";
        for (start, _) in text.char_indices() {
            for (end, _) in text.char_indices().filter(|(end, _)| *end > start) {
                crate::forms::read(&text[start..end], u8::MAX);
            }
        }
    }
}
