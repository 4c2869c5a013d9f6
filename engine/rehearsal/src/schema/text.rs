//! Strings: what a property's name makes one expect, and the formats that JSON schemas name.

use std::fmt::Write as _;

use super::{Format, Text};
use crate::prose::Voice;
use crate::random::Random;
use crate::vocabulary::{CITIES, COLOURS, COUNTRIES, FIRST_NAMES, LAST_NAMES, NOUNS};

/// Draws of a pattern that has gaps in its lengths, at most.
const TRIES: usize = 8;
/// Texts of a format from which those that keep some lengths are taken.
const DRAWN: usize = 512;
/// Seconds from 2000-01-01 to 2037-12-31.
const SECONDS: usize = 1_199_145_600;

/// What a string is likely to be, from its property's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Sentence,
    Sentences,
    Phrase,
    Word,
    Title,
    Person,
    FirstName,
    LastName,
    Email,
    City,
    Country,
    Street,
    Postcode,
    Phone,
    Link,
    Date,
    Colour,
    Identifier,
}

/// Endings of names, without capitals and lines; the first that fits counts.
const HINTS: &[(Hint, &[&str])] = &[
    (Hint::Email, &["email", "emailaddress", "mail"]),
    (Hint::FirstName, &["firstname", "givenname", "nickname"]),
    (Hint::LastName, &["lastname", "surname", "familyname"]),
    (Hint::Title, &["title", "headline", "subject"]),
    (Hint::Phrase, &["productname", "filename", "companyname", "itemname", "toolname", "brandname"]),
    (Hint::Person, &["name", "author", "customer", "person", "speaker", "recipient", "sender", "contact", "owner", "manager"]),
    (Hint::City, &["city", "town", "location", "place", "destination", "origin", "capital"]),
    (Hint::Country, &["country", "nation", "nationality"]),
    (Hint::Street, &["street", "address"]),
    (Hint::Postcode, &["postcode", "zipcode", "zip", "postalcode"]),
    (Hint::Phone, &["phone", "telephone", "mobile", "phonenumber"]),
    (Hint::Link, &["url", "uri", "link", "website", "homepage"]),
    (Hint::Date, &["date", "birthday", "deadline", "day"]),
    (Hint::Colour, &["colour", "color"]),
    (Hint::Identifier, &["id", "identifier", "sku", "reference", "serial"]),
    (Hint::Word, &["tag", "tags", "keyword", "keywords", "word", "words", "language", "unit", "token"]),
    (
        Hint::Phrase,
        &[
            "product",
            "item",
            "items",
            "label",
            "labels",
            "category",
            "categories",
            "topic",
            "topics",
            "type",
            "kind",
            "role",
            "job",
            "occupation",
            "department",
            "brand",
            "material",
            "ingredient",
            "ingredients",
            "company",
            "organisation",
            "organization",
            "feature",
            "skill",
            "skills",
            "genre",
            "theme",
            "mood",
            "stakeholder",
            "query",
            "key",
            "domain",
            "cause",
        ],
    ),
    (
        Hint::Sentences,
        &[
            "description",
            "summary",
            "explanation",
            "reason",
            "reasoning",
            "rationale",
            "body",
            "content",
            "review",
            "story",
            "paragraph",
            "message",
            "analysis",
            "considerations",
        ],
    ),
];

impl Hint {
    /// From a property's name: `customerEmail` and `customer_email` alike.
    pub(super) fn of(name: &str) -> Self {
        let plain: String = name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        // The whole name first, so that "subject" is no "object"; then its last word.
        let last = name
            .rsplit(|letter: char| !letter.is_alphanumeric())
            .next()
            .map(|word| word.rfind(|letter: char| letter.is_uppercase()).map_or(word, |at| &word[at..]).to_lowercase())
            .unwrap_or_default();
        let find = |word: &str| HINTS.iter().find(|(_, names)| names.contains(&word)).map(|(hint, _)| *hint);
        find(&plain).or_else(|| find(&last)).unwrap_or(Self::Sentence)
    }
}

/// Appends a string that the rules allow, unescaped.
pub(super) fn write(text: &Text, voice: &mut Voice<'_>, out: &mut String) {
    if let Some(pattern) = &text.pattern {
        let most = text.most.unwrap_or(usize::MAX);
        let mut drawn = String::new();
        for _ in 0..TRIES {
            drawn.clear();
            pattern.write(&mut voice.random, text.least, most, &mut drawn);
            if (text.least..=most).contains(&drawn.chars().count()) {
                break;
            }
        }
        out.push_str(&drawn);
        return;
    }
    if !text.fitting.is_empty() {
        out.push_str(&text.fitting[voice.random.below(text.fitting.len())]);
        return;
    }
    if let Some(format) = text.format {
        return formatted(format, &mut voice.random, out);
    }
    let from = out.len();
    let narrow = text.most.is_some_and(|most| most < 40);
    match text.hint {
        Hint::Sentence | Hint::Sentences if narrow => voice.short_phrase(out),
        Hint::Sentence => voice.sentence(out),
        Hint::Sentences => {
            let count = voice.random.between(1, 3);
            voice.sentences(out, count);
        }
        hint => short(hint, voice, out),
    }
    fit(text, voice, from, out);
}

/// Shortens or lengthens what was written from `from` on.
fn fit(text: &Text, voice: &mut Voice<'_>, from: usize, out: &mut String) {
    if let Some(most) = text.most {
        if let Some((end, _)) = out[from..].char_indices().nth(most) {
            // At a space if there is one not too far back, so that words stay whole.
            let end = from + end;
            let cut = out[from..end].rfind(' ').map_or(end, |space| from + space);
            let enough = out[from..cut].chars().count() >= text.least.max(most / 2);
            out.truncate(if enough { cut } else { end });
        }
    }
    let mut length = out[from..].chars().count();
    while length < text.least {
        let missing = text.least - length;
        let word = voice.random.pick(NOUNS);
        if length > 0 && missing > 1 {
            out.push(' ');
            length += 1;
        }
        let room = text.most.map_or(usize::MAX, |most| most - length);
        let taken = word.len().min(room);
        out.push_str(&word[..taken]);
        length += taken;
    }
}

fn short(hint: Hint, voice: &mut Voice<'_>, out: &mut String) {
    let random = &mut voice.random;
    match hint {
        Hint::Phrase => voice.short_phrase(out),
        Hint::Word => out.push_str(voice.word()),
        Hint::Title => voice.title(out),
        Hint::Person => {
            out.push_str(random.pick(FIRST_NAMES));
            out.push(' ');
            out.push_str(random.pick(LAST_NAMES));
        }
        Hint::FirstName => out.push_str(random.pick(FIRST_NAMES)),
        Hint::LastName => out.push_str(random.pick(LAST_NAMES)),
        Hint::Email => formatted(Format::Email, random, out),
        Hint::City => out.push_str(random.pick(CITIES)),
        Hint::Country => out.push_str(random.pick(COUNTRIES)),
        Hint::Street => put(out, format_args!("{} {} Street", random.between(1, 180), capital(random.pick(NOUNS)))),
        Hint::Postcode => put(out, format_args!("{:05}", random.between(1000, 99_999))),
        Hint::Phone => put(out, format_args!("+1 555 01{:02}", random.below(100))),
        Hint::Link => formatted(Format::Uri, random, out),
        Hint::Date => formatted(Format::Date, random, out),
        Hint::Colour => out.push_str(random.pick(COLOURS)),
        Hint::Identifier => put(out, format_args!("{}-{:04}", random.pick(NOUNS), random.below(10_000))),
        Hint::Sentence | Hint::Sentences => voice.sentence(out),
    }
}

/// Texts of a format that keep the lengths; none are listed where all of them do. None if none does.
pub(super) fn fitting(format: Format, least: usize, most: Option<usize>) -> Option<Vec<String>> {
    let mut random = Random::new(1);
    let all = (0..DRAWN).map(|_| {
        let mut text = String::new();
        formatted(format, &mut random, &mut text);
        text
    });
    let mut fitting: Vec<String> = all.filter(|text| (least..=most.unwrap_or(usize::MAX)).contains(&text.chars().count())).collect();
    match fitting.len() {
        0 => None,
        DRAWN => Some(Vec::new()),
        _ => {
            fitting.sort();
            fitting.dedup();
            Some(fitting)
        }
    }
}

fn formatted(format: Format, random: &mut Random, out: &mut String) {
    let (year, month, day) = (random.between(2000, 2037), random.between(1, 12), random.between(1, 28));
    let second = random.below(SECONDS);
    let (hours, minutes, seconds) = (second / 3600 % 24, second / 60 % 60, second % 60);
    match format {
        Format::Date => put(out, format_args!("{year}-{month:02}-{day:02}")),
        Format::Time => put(out, format_args!("{hours:02}:{minutes:02}:{seconds:02}Z")),
        Format::DateTime => put(out, format_args!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")),
        Format::Duration => put(out, format_args!("P{day}DT{hours}H{minutes}M")),
        Format::Email => {
            let (first, last) = (random.pick(FIRST_NAMES), random.pick(LAST_NAMES));
            put(out, format_args!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase()));
        }
        Format::Hostname => put(out, format_args!("{}.example.com", random.pick(NOUNS))),
        Format::Ipv4 => put(out, format_args!("192.0.2.{}", random.between(1, 254))),
        Format::Ipv6 => put(out, format_args!("2001:db8::{:x}", random.between(1, 0xffff))),
        Format::Uri => put(out, format_args!("https://example.com/{}/{}", random.pick(NOUNS), random.below(1000))),
        Format::UriReference => put(out, format_args!("/{}/{}", random.pick(NOUNS), random.below(1000))),
        Format::JsonPointer => put(out, format_args!("/{}/{}", random.pick(NOUNS), random.below(10))),
        Format::Regex => put(out, format_args!("^{}[0-9]+$", random.pick(NOUNS))),
        Format::Uuid => {
            let bits = u128::from(random.next()) << 64 | u128::from(random.next());
            let bits = bits & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
            put(
                out,
                format_args!(
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    bits >> 96,
                    bits >> 80 & 0xffff,
                    bits >> 64 & 0xffff,
                    bits >> 48 & 0xffff,
                    bits & 0xffff_ffff_ffff
                ),
            );
        }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

fn capital(word: &str) -> String {
    let mut word = word.to_owned();
    crate::prose::capitalise(&mut word, 0);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_string_is() {
        for (name, hint) in [
            ("customer_email", Hint::Email),
            ("firstName", Hint::FirstName),
            ("Home City", Hint::City),
            ("orderId", Hint::Identifier),
            ("reason", Hint::Sentences),
            ("tags", Hint::Word),
            ("valid", Hint::Sentence),
            ("objection", Hint::Sentence),
            ("", Hint::Sentence),
        ] {
            assert_eq!(Hint::of(name), hint, "{name}");
        }
    }

    #[test]
    fn lengths_are_kept_whatever_the_hint() {
        let mut voice = Voice::new(Random::new(1), &["laptop"]);
        let hints = HINTS.iter().map(|(hint, _)| *hint).chain([Hint::Sentence]);
        for hint in hints {
            for (least, most) in [(0, 1), (1, 1), (3, 3), (10, 12), (200, 220), (0, 60), (500, 500)] {
                let mut out = "before ".to_owned();
                let text = Text { least, most: Some(most), pattern: None, format: None, fitting: Vec::new(), hint };
                write(&text, &mut voice, &mut out);
                let length = out.strip_prefix("before ").unwrap().chars().count();
                assert!((least..=most).contains(&length), "{hint:?} {least} {most}: {out}");
            }
        }
    }
}
