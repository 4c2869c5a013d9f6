//! Free text: sentences that are right in grammar, differ from row to row, and mean little.
//!
//! A sentence is one of a few patterns whose places are filled from the `lexicon` and with words of
//! the request, so that the text looks as if it were about it.

use crate::lexicon::{
    Field, Verb, ADJECTIVES, CROWDS, DURATIONS, FIELDS, GERUNDS, LINKS, MANNERS, PLACES, SAYINGS, SUBJECTS, TIMES, WISHES,
};
use crate::random::Random;
use crate::vocabulary::{NOUNS, QUALITIES};

/// A place in a pattern.
#[derive(Clone, Copy)]
enum Part {
    Words(&'static str),
    Subject,
    /// A subject and what it did.
    Clause,
    /// What someone did.
    Did,
    /// What someone may do.
    Do,
    /// A thing that the request is about.
    Topic,
    Time,
    Place,
    Manner,
    Adjective,
    Gerund,
    Saying,
    Wish,
    Duration,
    Crowd,
}

use Part::{Adjective, Clause, Crowd, Did, Do, Duration, Gerund, Manner, Place, Saying, Subject, Time, Topic, Wish, Words};

const PATTERNS: &[&[Part]] = &[
    &[Clause, Manner],
    &[Clause, Place],
    &[Time, Words(","), Clause],
    &[Time, Words(","), Clause, Manner],
    &[Time, Words(","), Subject, Did, Words("and"), Did],
    &[Clause, Words(", and"), Clause],
    &[Clause, Words(", but"), Clause, Manner],
    &[Words("although"), Clause, Words(","), Clause],
    &[Words("when"), Clause, Words(","), Clause],
    &[Words("after"), Clause, Words(","), Clause, Place],
    &[Clause, Words("because"), Clause],
    &[Clause, Words("so that nobody had to"), Do],
    &[Subject, Saying, Clause],
    &[Subject, Saying, Topic, Words("had been"), Adjective],
    &[Subject, Wish, Do, Manner],
    &[Subject, Wish, Do, Words(", and"), Subject, Did],
    &[Words("nobody doubted that"), Clause],
    &[Words("as for"), Topic, Words(","), Clause],
    &[Words("when it came to"), Topic, Words(","), Subject, Wish, Do],
    &[Topic, Words("turned out to be"), Adjective],
    &[Topic, Words("proved to be"), Adjective, Words(", and"), Clause],
    &[Words("what mattered most was"), Gerund, Words(", not"), Gerund],
    &[Words("what mattered to"), Subject, Words("was"), Gerund],
    &[Gerund, Words("was"), Adjective],
    &[Words("the first step was to"), Do, Words(", and the second was to"), Do],
    &[Words("it took"), Duration, Words("to"), Do, Words(", but"), Clause],
    &[Words("there were"), Crowd, Place, Words(", and"), Clause],
    &[Words("people rarely"), Do, Manner],
    &[Words("most of us would"), Do, Manner],
    &[Words("it was not enough to"), Do, Words(":"), Subject, Words("also had to"), Do],
    &[Words("without"), Topic, Words(","), Subject, Words("would never have had the time to"), Do],
    &[Words("the more"), Subject, Words("heard about"), Topic, Words(", the less there was to"), Do],
];

/// How topics stand in a sentence, before and after the word: plurals, singulars, names.
const ABOUT_MANY: &[(&str, &str)] = &[
    ("the ", ""),
    ("the question of ", ""),
    ("the story of the ", ""),
    ("everything about ", ""),
    ("the cost of ", ""),
    ("all the talk about ", ""),
    ("the list of ", ""),
    ("the choice of ", ""),
];
const ABOUT_ONE: &[(&str, &str)] = &[
    ("the ", ""),
    ("the ", " question"),
    ("this ", ""),
    ("the story of the ", ""),
    ("the ", " side of it"),
    ("the whole ", " business"),
    ("the part about the ", ""),
    ("the next ", ""),
];

const ABOUT_NAMES: &[(&str, &str)] = &[
    ("", ""),
    ("the question of ", ""),
    ("the story of ", ""),
    ("everything about ", ""),
    ("the ", " question"),
    ("the whole ", " affair"),
    ("the part about ", ""),
    ("the news from ", ""),
];

/// Sentences that are too long for the room left are drawn again, so often.
const TRIES: usize = 3;

/// One speaker: a stream of random numbers and the words that the talk is about.
pub(crate) struct Voice<'a> {
    pub(crate) random: Random,
    topics: &'a [&'a str],
}

impl<'a> Voice<'a> {
    pub(crate) const fn new(random: Random, topics: &'a [&'a str]) -> Self {
        Self { random, topics }
    }

    /// Appends a sentence, with a full stop.
    pub(crate) fn sentence(&mut self, out: &mut String) {
        self.sentence_after(out, false);
    }

    /// The same; where it follows another, it may begin with a link to it.
    fn sentence_after(&mut self, out: &mut String, follows: bool) {
        let from = out.len();
        if follows && self.random.chance(1, 4) {
            out.push_str(self.random.pick(LINKS));
            out.push_str(", ");
        }
        let pattern = PATTERNS[self.random.below(PATTERNS.len())];
        for (number, &part) in pattern.iter().enumerate() {
            if number > 0 && !matches!(part, Words(words) if words.starts_with([',', ':'])) {
                out.push(' ');
            }
            self.fill(part, out);
        }
        out.push('.');
        capitalise(out, from);
    }

    fn fill(&mut self, part: Part, out: &mut String) {
        let words = match part {
            Words(words) => words,
            Subject => return self.subject(out),
            Clause => {
                self.subject(out);
                out.push(' ');
                return self.did(out, |verb| verb.0);
            }
            Did => return self.did(out, |verb| verb.0),
            Do => return self.did(out, |verb| verb.1),
            Topic => return self.topic(out),
            Time => self.random.pick(TIMES),
            Place => self.random.pick(PLACES),
            Manner => self.random.pick(MANNERS),
            Adjective => self.random.pick(ADJECTIVES),
            Gerund => self.random.pick(GERUNDS),
            Saying => self.random.pick(SAYINGS),
            Wish => self.random.pick(WISHES),
            Duration => self.random.pick(DURATIONS),
            Crowd => self.random.pick(CROWDS),
        };
        out.push_str(words);
    }

    fn subject(&mut self, out: &mut String) {
        out.push_str(self.random.pick(SUBJECTS));
    }

    fn did(&mut self, out: &mut String, form: impl Fn(&Verb) -> &'static str) {
        let field: &Field = &FIELDS[self.random.below(FIELDS.len())];
        out.push_str(form(&field.verbs[self.random.below(field.verbs.len())]));
        out.push(' ');
        if field.open && !self.topics.is_empty() && self.random.chance(1, 2) {
            self.topic(out);
        } else {
            out.push_str(self.random.pick(field.objects));
        }
    }

    fn topic(&mut self, out: &mut String) {
        let word = self.word();
        let many = word.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| word.ends_with(ending));
        let frames = if word.starts_with(char::is_uppercase) {
            ABOUT_NAMES
        } else if many {
            ABOUT_MANY
        } else {
            ABOUT_ONE
        };
        let (before, after) = frames[self.random.below(frames.len())];
        out.push_str(before);
        out.push_str(word);
        out.push_str(after);
    }

    /// A word of the request, or a plain noun.
    pub(crate) fn word(&mut self) -> &'a str {
        if self.topics.is_empty() {
            self.random.pick(NOUNS)
        } else {
            self.topics[self.random.below(self.topics.len())]
        }
    }

    /// Appends sentences of about that many words in all: at least one, and not more than a sixth too many.
    pub(crate) fn sentences_of(&mut self, out: &mut String, words: usize) {
        if words < 9 {
            return self.few_words(out, words);
        }
        let (mut count, mut follows, mut tries) = (0, false, 0);
        while count * 8 < words * 7 {
            let from = out.len();
            if follows {
                out.push(' ');
            }
            self.sentence_after(out, follows);
            let more = count_words(&out[from..]);
            if follows && (count + more) * 6 > words * 7 {
                out.truncate(from);
                tries += 1;
                if tries == TRIES {
                    return;
                }
                continue;
            }
            count += more;
            follows = true;
        }
    }

    /// Appends that many sentences.
    pub(crate) fn sentences(&mut self, out: &mut String, count: usize) {
        for number in 0..count {
            if number > 0 {
                out.push(' ');
            }
            self.sentence_after(out, number > 0);
        }
    }

    /// Appends exactly that many words, without a full stop.
    fn few_words(&mut self, out: &mut String, words: usize) {
        let from = out.len();
        match words {
            0 => return,
            1 => out.push_str(self.word()),
            _ => {
                for _ in 2..words {
                    out.push_str(self.random.pick(QUALITIES));
                    out.push(' ');
                }
                out.push_str(self.random.pick(QUALITIES));
                out.push(' ');
                out.push_str(self.word());
            }
        }
        capitalise(out, from);
    }

    /// Appends a title: three to seven words, capitalised.
    pub(crate) fn title(&mut self, out: &mut String) {
        let from = out.len();
        match self.random.below(5) {
            0 => {
                out.push_str("the ");
                self.short_phrase(out);
            }
            1 => {
                out.push_str("a ");
                out.push_str(self.random.pick(&["quiet", "narrow", "better", "common", "final", "modern", "short"]));
                out.push_str(" history of the ");
                out.push_str(self.word());
            }
            2 => {
                out.push_str("what the ");
                out.push_str(self.word());
                out.push_str(" taught us");
            }
            3 => {
                self.short_phrase(out);
                out.push_str(" and ");
                self.short_phrase(out);
            }
            _ => out.push_str(self.random.pick(GERUNDS)),
        }
        let mut start = true;
        let titled: String = out[from..]
            .split_inclusive(' ')
            .map(|word| {
                let small = !start && matches!(word.trim_end(), "the" | "a" | "and" | "of" | "in" | "on" | "to" | "for");
                start = false;
                let mut word = word.to_owned();
                if !small {
                    capitalise(&mut word, 0);
                }
                word
            })
            .collect();
        out.truncate(from);
        out.push_str(&titled);
    }

    /// Appends two words, such as a name for a thing: `quiet harbour`.
    pub(crate) fn short_phrase(&mut self, out: &mut String) {
        out.push_str(self.random.pick(QUALITIES));
        out.push(' ');
        out.push_str(self.word());
    }

    /// Appends a point of a list: what one may do, without a full stop.
    pub(crate) fn point(&mut self, out: &mut String) {
        let from = out.len();
        self.did(out, |verb| verb.1);
        if self.random.chance(1, 2) {
            out.push(' ');
            out.push_str(self.random.pick(MANNERS));
        }
        capitalise(out, from);
    }
}

fn count_words(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b' ').count() + usize::from(!text.starts_with(' '))
}

/// Makes the letter at `at` a capital, if it is a plain one.
pub(crate) fn capitalise(text: &mut str, at: usize) {
    if text.is_char_boundary(at + 1) && at < text.len() {
        text[at..=at].make_ascii_uppercase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const TOPICS: &[&str] = &["laptop", "batteries", "Berlin", "caf\u{e9}s", "\u{fc}bung"];

    #[test]
    fn sentences_begin_and_end_as_sentences_do() {
        let mut voice = Voice::new(Random::new(1), TOPICS);
        let mut seen = HashSet::new();
        for _ in 0..5_000 {
            let mut text = String::new();
            voice.sentence(&mut text);
            assert!(text.starts_with(|c: char| c.is_uppercase()) && text.ends_with('.'), "{text}");
            assert!(!text.contains("  ") && !text.contains(" ,") && !text.contains(",,"), "{text}");
            seen.insert(text);
        }
        assert!(seen.len() > 4_850, "{} different of 5000", seen.len());
    }

    #[test]
    fn lengths_are_about_those_asked_for() {
        let mut voice = Voice::new(Random::new(2), TOPICS);
        for words in [1, 2, 3, 5, 8, 10, 30, 50, 100, 400] {
            for _ in 0..50 {
                let mut text = String::new();
                voice.sentences_of(&mut text, words);
                let count = text.split(' ').count();
                let most = if words < 9 { words } else { (words * 7 / 6).max(32) };
                assert!(count <= most && count * 5 >= words * 2, "{count} words for {words}: {text}");
            }
        }
    }

    #[test]
    fn the_same_seed_says_the_same() {
        let say = |seed| {
            let mut text = String::new();
            Voice::new(Random::new(seed), TOPICS).sentences_of(&mut text, 60);
            text
        };
        assert_eq!(say(1), say(1));
        assert_ne!(say(1), say(2));
    }

    #[test]
    fn titles_are_capitalised() {
        let mut voice = Voice::new(Random::new(3), &["laptop"]);
        for _ in 0..200 {
            let mut title = String::new();
            voice.title(&mut title);
            assert!(title.starts_with(|c: char| c.is_uppercase()) && !title.ends_with('.'), "{title}");
            assert!((2..=8).contains(&title.split(' ').count()), "{title}");
        }
    }
}
