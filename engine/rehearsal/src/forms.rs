//! The form of an answer, read from the phrases that people use to ask for one.
//!
//! Nothing here knows a recipe. Each function looks for one kind of phrase, and only in texts that
//! `marks` has found worth it; a phrase that it does not know leaves free text.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::brief::{Form, Json, Length, List};
use crate::marks::mark;
use crate::terms::{self, Sentence};

/// Words about length count only this near to the beginning or the end of a text; what lies between
/// is more likely the matter than the order.
const NEAR: usize = 400;
/// A pair of numbers this far behind a word such as "scale" belongs to it.
const SCORE_REACH: usize = 90;
/// `each` this near behind an amount makes it one of every part.
const EACH_REACH: usize = 24;
const LARGEST_SCORE: i64 = 1000;
const MOST_ITEMS: usize = 50;

/// The form that a text asks for; `marks` are those of its words.
pub(crate) fn read(text: &str, marks: u8) -> Form {
    let mut form = Form::default();
    if marks & !(mark::COMMON | mark::AGAIN) == 0 {
        return form;
    }
    let lower = text.to_ascii_lowercase();
    if marks & mark::JSON != 0 {
        form.json = json(text, &lower);
    }
    if marks & mark::CHOICE != 0 {
        form.choices = choices(text, &lower);
    }
    if marks & mark::HEADING != 0 {
        form.headings = headings(text, &lower);
    }
    if marks & mark::LIST != 0 {
        form.list = list(&lower);
    }
    if marks & mark::SCORE != 0 {
        form.score = score(&lower);
        form.bare = form.score.is_some() && only_number(&lower);
    }
    if marks & mark::LENGTH != 0 {
        form.length = length(&lower);
    }
    form
}

/// `one of: a, b or c`, `choose from "a", "b"`, `Options:` and a list below.
fn choices(text: &str, lower: &str) -> Vec<String> {
    /// Phrases behind which the choices stand, perhaps after a few words and a colon.
    const OPENINGS: &[&str] = &[
        "exactly one of",
        "only one of",
        "with one of",
        "choose one of",
        "pick one of",
        "select one of",
        "one of the following",
        "one of these",
        "one of:",
        "either of",
        "choose from",
        "choose between",
        "pick from",
        "options:",
        "options are",
        "choices:",
        "choices are",
        "choose exactly one",
        "pick exactly one",
        "select exactly one",
    ];
    let mut openings: Vec<_> = OPENINGS.iter().filter_map(|phrase| lower.rfind(phrase).map(|at| at + phrase.len())).collect();
    openings.sort_unstable_by(|one, other| other.cmp(one));
    openings
        .into_iter()
        .map(|at| {
            let rest = &text[at..];
            // A colon soon after leads to the list: "one of the following words, in small letters:".
            let colon = rest.bytes().take(60).position(|byte| matches!(byte, b':' | b'\n' | b'"' | b'\'' | b'`' | b'['));
            match colon.filter(|&colon| rest.as_bytes()[colon] == b':') {
                Some(colon) if !rest[..colon].contains(". ") => terms::listed(&rest[colon + 1..]),
                _ => terms::listed(rest),
            }
        })
        .find(|items| items.len() >= 2)
        .unwrap_or_default()
}

/// `under the heading X`, `with the sections "A" and "B"`, `in this format:` and lines `X:` below.
fn headings(text: &str, lower: &str) -> Vec<String> {
    const OPENINGS: &[&str] = &["heading", "section", "headed", "titled", "labelled", "labeled", "header", " labels", " parts"];
    /// Only lines of their own are headings here, no words within a sentence.
    const LAYOUTS: &[&str] = &["format", "structure", "template", "layout"];
    let places = |phrases: &'static [&str]| {
        phrases.iter().flat_map(|phrase| lower.match_indices(phrase)).map(|(at, phrase)| (at, at + phrase.len()))
    };
    // Lines below an order that ends with a colon say it best; the last order counts.
    let mut orders: Vec<_> = places(OPENINGS).chain(places(LAYOUTS)).map(|(_, end)| end).collect();
    orders.sort_unstable_by(|one, other| other.cmp(one));
    let below = orders.into_iter().filter(|&end| terms::ends_with_colon(&text[end..])).map(|end| terms::heading_lines(text, end));
    let mut found = below.into_iter().find(|lines| !lines.is_empty()).unwrap_or_default();
    if found.is_empty() {
        for (at, after) in places(OPENINGS) {
            let end = after + terms::sentence_end(&text[after..]);
            let terms = Sentence { text, start: after, end }.terms();
            // A list may stand before its word: "CONSIDERATIONS and ACTION sections".
            let start = terms::sentence_start(&text[..at]);
            found.extend(if terms.is_empty() { Sentence { text, start, end: at }.shouted() } else { terms });
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let mut headings: Vec<String> = Vec::new();
    for (_, heading) in found {
        if !headings.iter().any(|other| terms::plain(other).eq_ignore_ascii_case(terms::plain(&heading))) {
            headings.push(heading);
        }
    }
    headings
}

/// `a numbered list`, `bullet points`, `list three ideas`.
fn list(lower: &str) -> Option<List> {
    const THINGS: &[&str] = &["items", "steps", "ideas", "points", "examples", "reasons", "suggestions", "tips", "questions", "bullets"];
    let bullets = lower.contains("bullet");
    let asked = bullets
        || lower.contains("numbered")
        || ["a list of", "as a list", "list of the", "in a list", "list the"].iter().any(|phrase| lower.contains(phrase));
    let counted = THINGS
        .iter()
        .chain(&["list of"])
        .filter_map(|thing| {
            let at = lower.find(thing)?;
            if *thing == "list of" {
                terms::words(&lower[at + thing.len()..]).next().and_then(terms::count)
            } else {
                terms::last_words(&lower[..at]).take(3).find_map(terms::count)
            }
        })
        .find(|items| (2..=MOST_ITEMS).contains(items));
    (asked || counted.is_some()).then_some(List { numbered: !bullets, items: counted })
}

/// `from 0 to 4`, `between 1 and 10`, `1-5`, `out of 10` behind a word such as "scale".
fn score(lower: &str) -> Option<(i64, i64)> {
    const OPENINGS: &[&str] = &["score", "rate", "rating", "scale", "grade", "number", "digit", "integer"];
    OPENINGS
        .iter()
        .flat_map(|word| lower.match_indices(word))
        .find_map(|(at, _)| {
            let end = lower.len().min(at + SCORE_REACH);
            let end = (end..=lower.len()).find(|&end| lower.is_char_boundary(end))?;
            terms::range(&lower[at..end])
        })
        .filter(|&(low, high)| low < high && (-LARGEST_SCORE..=LARGEST_SCORE).contains(&low) && high <= LARGEST_SCORE)
}

fn only_number(lower: &str) -> bool {
    const PHRASES: &[&str] = &[
        "only the number",
        "just the number",
        "only a number",
        "just a number",
        "a single number",
        "number only",
        "with a number",
        "only with the number",
        "a single digit",
        "one digit",
        "a single integer",
        "only an integer",
        "an integer only",
        "only the score",
        "just the score",
        "with the number",
        "only the digit",
        "number and nothing else",
    ];
    PHRASES.iter().any(|phrase| lower.contains(phrase))
}

/// `in two sentences`, `about 200 words`, `one word`, `a title`, `short`.
fn length(lower: &str) -> Length {
    const TITLES: &[&str] = &["a title", "the title", "a headline", "title for", "headline for", "as a title", "a short title"];
    /// In front of what is to be written, or behind an order.
    const SHORTLY: &[&str] = &["short", "brief", "concise"];
    const WRITTEN: &[&str] = &[
        "answer",
        "reply",
        "response",
        "text",
        "description",
        "summary",
        "message",
        "note",
        "review",
        "comment",
        "explanation",
        "statement",
        "post",
        "form",
    ];
    const ORDERS: &[&str] = &["be ", "keep it ", "keep them ", "stay "];
    let mut length = Length::default();
    let units = [(&*WORD, &mut length.words), (&*SENTENCE, &mut length.sentences), (&*PARAGRAPH, &mut length.paragraphs)];
    for (unit, count) in units {
        let found = unit.find_iter(lower.as_bytes()).find_map(|at| Some((at, amount(&lower[..at], unit.needle() != b"word")?)));
        if let Some((at, amount)) = found {
            *count = Some(amount);
            length.each |= lower.as_bytes()[at..].windows(4).take(EACH_REACH).any(|word| word == b"each");
        }
    }
    if length == Length::default() {
        let near = |at: usize| at < NEAR || lower.len() - at < NEAR;
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| places(lower, phrase).any(near));
        let has = |word: &Finder| word.find(lower.as_bytes()).is_some();
        length.title = (has(&TITLE) || has(&HEADLINE)) && says(TITLES);
        let short = |word: &&str| {
            places(lower, word).any(|at| {
                let (before, after) = (&lower[..at], lower[at + word.len()..].trim_start());
                near(at) && (ORDERS.iter().any(|order| before.ends_with(order)) || WRITTEN.iter().any(|noun| after.starts_with(noun)))
            })
        };
        let concise = has(&BRIEF) || has(&CONCISE);
        length.short =
            !length.title && (concise && says(&["briefly", "concisely"]) || (concise || has(&SHORT)) && SHORTLY.iter().any(short));
    }
    length
}

// Made once: nearly every text is searched for these.
static WORD: LazyLock<Finder> = LazyLock::new(|| Finder::new("word"));
static SENTENCE: LazyLock<Finder> = LazyLock::new(|| Finder::new("sentence"));
static PARAGRAPH: LazyLock<Finder> = LazyLock::new(|| Finder::new("paragraph"));
static TITLE: LazyLock<Finder> = LazyLock::new(|| Finder::new("title"));
static HEADLINE: LazyLock<Finder> = LazyLock::new(|| Finder::new("headline"));
static SHORT: LazyLock<Finder> = LazyLock::new(|| Finder::new("short"));
static BRIEF: LazyLock<Finder> = LazyLock::new(|| Finder::new("brief"));
static CONCISE: LazyLock<Finder> = LazyLock::new(|| Finder::new("concise"));

/// Where a phrase stands in a text.
fn places<'a>(lower: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(lower.as_bytes(), phrase)
}

/// How many, from the words before a unit: `two`, `80 to 120`, `a single vivid`. The middle of a
/// range, and less than a limit.
///
/// loose: adjectives may stand between, and `a` counts as one.
fn amount(before: &str, loose: bool) -> Option<usize> {
    // What stands in the same sentence; its own end does not count.
    let inner = &before.as_bytes()[..before.len().saturating_sub(1)];
    let start = memchr::memrchr2(b'.', b'\n', inner).map_or(0, |end| end + 1);
    let number = |word: &str| terms::count(word).or_else(|| (loose && word == "a").then_some(1));
    let mut last = terms::last_words(&before[start..]);
    let nearest = last.next().filter(|word| loose || number(word).is_some())?;
    let mut words = [nearest, "", "", "", ""];
    last.zip(&mut words[1..]).for_each(|(word, place)| *place = word);
    // Adjectives may stand before a sentence or a paragraph, nothing before words.
    let first = words.iter().position(|word| number(word).is_some()).filter(|&first| first == 0 || loose && first <= 3)?;
    let high = number(words[first])?;
    let joined = words.get(first + 1).is_some_and(|word| matches!(*word, "to" | "or" | "and"));
    let low = words.get(first + if joined { 2 } else { 1 }).and_then(|word| terms::count(word)).filter(|&low| low <= high);
    let limit = words.get(first + 1).is_some_and(|word| matches!(*word, "under" | "most" | "than" | "within"));
    let middle = low.unwrap_or(high).midpoint(high);
    Some(if limit && !loose { (middle * 3 / 4).max(1) } else { middle })
}

/// A schema or an example inside the prompt, or the keys it names.
fn json(text: &str, lower: &str) -> Option<Json> {
    if let Some(found) = terms::objects(text).last() {
        let schema = ["properties", "type", "$ref", "anyOf", "oneOf", "allOf", "enum"];
        let is_schema = schema.iter().any(|key| {
            found.value.get(key).is_some_and(|value| match *key {
                "type" => value.is_array() || value.as_str().is_some_and(|name| TYPES.contains(&name)),
                "anyOf" | "oneOf" | "allOf" | "enum" => value.is_array(),
                "$ref" => value.is_string(),
                _ => value.is_object(),
            })
        });
        return Some(if is_schema { Json::Schema(found.text.to_owned()) } else { Json::Example(found.text.to_owned()) });
    }
    for phrase in ["with the keys", "with keys", "the keys", "with the fields", "with fields", "the fields", "keys:", "fields:"] {
        if let Some(at) = lower.find(phrase) {
            let keys = terms::listed(text[at + phrase.len()..].trim_start_matches([' ', ':']));
            if !keys.is_empty() {
                return Some(Json::Keys(keys));
            }
        }
    }
    ["as json", "in json", "json object", "valid json", "json only", "only json", "a json", "json format", "json schema"]
        .iter()
        .any(|phrase| lower.contains(phrase))
        .then_some(Json::Any)
}

const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Form {
        read(text, u8::MAX)
    }

    #[test]
    fn choices_are_found_in_many_phrasings() {
        let three = ["low", "middle", "very high"];
        for text in [
            "How urgent is it?\nAnswer with exactly one of: low, middle, very high",
            "Choose one of the following: \"low\", \"middle\" or \"very high\". Explain nothing.",
            "Answer with one of low, middle, or very high.",
            "Reply with one of these words, in small letters: low | middle | very high",
            "Options:\n- low\n- middle\n- very high\n\nGive no reason.",
            "Pick exactly one of the following choices:\n1. low\n2. middle\n3. very high",
            "Answer with exactly one of [\"low\", \"middle\", \"very high\"], please.",
            "Exactly one of `low`, `middle` and `very high`.",
        ] {
            assert_eq!(all(text).choices, three, "{text}");
        }
        assert_eq!(all("Answer with exactly one of: \"a, b\", \"c\"").choices, ["a, b", "c"]);
        for text in ["One of our customers wrote. Say why, or ask.", "This one is exactly right, or is it?"] {
            assert_eq!(all(text).choices, [""; 0], "{text}");
        }
    }

    #[test]
    fn headings_are_found_in_many_phrasings() {
        let two = ["CONSIDERATIONS", "ACTION"];
        for text in [
            "Write two sections, CONSIDERATIONS and ACTION.",
            "Under the heading CONSIDERATIONS, weigh what matters. Then, under the heading ACTION, say what to do.",
            "Answer with the headings \"CONSIDERATIONS\" and \"ACTION\"; be brief.",
            "Give your CONSIDERATIONS and your ACTION as two sections.",
        ] {
            assert_eq!(all(text).headings, two, "{text}");
        }
        for text in [
            "Use this format:\n\nCONSIDERATIONS:\n<what matters>\n\nACTION:\n<what to do>",
            "Answer in this structure:\nCONSIDERATIONS: ...\nACTION: ...\n",
        ] {
            assert_eq!(all(text).headings, ["CONSIDERATIONS:", "ACTION:"], "{text}");
        }
        // An order below a long text counts, whatever the text speaks of.
        let below = "The section \"A, B\" was titled NO ENTRY.\n\nWrite the answer under these headings, each on a line of its own, in this order:\n\nCONSIDERATIONS:\nACTION:";
        assert_eq!(all(below).headings, ["CONSIDERATIONS:", "ACTION:"]);
        assert_eq!(all("Use this template:\n## Overview\n## Open questions\n").headings, ["## Overview", "## Open questions"]);
        assert_eq!(all("Write it with the headings Overview, Open questions and Risks.").headings, ["Overview", "Open questions", "Risks"]);
        assert_eq!(all("Use headings: `## Cause` and `## Cure`.").headings, ["## Cause", "## Cure"]);
        for text in ["Answer in JSON format, ALWAYS.", "THE SCENARIO:\nA flood.\nWhat now?", "Write sections in plain English."] {
            assert_eq!(all(text).headings, [""; 0], "{text}");
        }
    }

    #[test]
    fn lists_scores_and_lengths_are_found() {
        let list = |text| all(text).list.map(|list| (list.numbered, list.items));
        assert_eq!(list("Write a numbered list of seven questions."), Some((true, Some(7))));
        assert_eq!(list("Answer in bullet points."), Some((false, None)));
        assert_eq!(list("Give me 3 short tips."), Some((true, Some(3))));
        assert_eq!(list("What is listed here?"), None);

        assert_eq!(all("Rate it from 0 to 4.").score, Some((0, 4)));
        assert_eq!(all("Give a score between 1 and 10.").score, Some((1, 10)));
        assert_eq!(all("On a scale of 1-5, how good?").score, Some((1, 5)));
        assert_eq!(all("Score it out of 20.").score, Some((0, 20)));
        assert_eq!(all("The rate rose from 9 to 5 today.").score, None);
        assert!(all("Rate from 1 to 5. Answer with a single number.").bare);
    }

    #[test]
    fn lengths_are_found() {
        let words = |text| all(text).length.words;
        assert_eq!(words("Write about 200 words."), Some(200));
        assert_eq!(words("Use 80-120 words."), Some(100));
        assert_eq!(words("In at most 40 words."), Some(30));
        assert_eq!(words("Answer with one word."), Some(1));
        assert_eq!(words("A single word."), Some(1));
        assert_eq!(words("In 2024. Words of wisdom"), None);
        let sentences = |text| all(text).length.sentences;
        assert_eq!(sentences("Say it in one sentence."), Some(1));
        assert_eq!(sentences("Two or three sentences."), Some(2));
        assert_eq!(sentences("A sentence, please."), Some(1));
        let paragraphs = |text| all(text).length.paragraphs;
        assert_eq!(paragraphs("Write one vivid, specific paragraph."), Some(1));
        assert_eq!(paragraphs("Three paragraphs."), Some(3));
        assert!(all("Give it a title.").length.title);
        for text in ["Keep it short.", "Write a short description.", "Answer briefly."] {
            assert!(all(text).length.short, "{text}");
        }
        assert!(!all("After a short pause the brief was read.").length.short);
        assert_eq!(all("Other words matter.").length, Length::default());

        let both = all("Write one paragraph of 120 to 180 words and nothing else: no title, no list, no remarks.");
        assert_eq!((both.length.paragraphs, both.length.words, both.length.title, both.list), (Some(1), Some(150), false, None));
        let each = all("Be concrete, in plain words, with 80 to 150 words\nfor each of the two.");
        assert_eq!((each.length.words, each.length.each), (Some(115), true));
    }

    #[test]
    fn json_is_found_with_its_schema_example_or_keys() {
        let schema = r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#;
        assert_eq!(
            all(&format!("Answer as JSON that follows this schema: {schema} and nothing else.")).json,
            Some(Json::Schema(schema.into()))
        );
        let example = r#"{"type": "bug", "level": 3}"#;
        assert_eq!(all(&format!("JSON like {example}")).json, Some(Json::Example(example.into())));
        assert_eq!(
            all("A JSON object with the keys name, age and \"home town\".").json,
            Some(Json::Keys(vec!["name".into(), "age".into(), "home town".into()]))
        );
        assert_eq!(all("Answer in JSON.").json, Some(Json::Any));
        assert_eq!(all("Is JSON hard?").json, None);
    }
}
