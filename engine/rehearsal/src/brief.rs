//! What a conversation asks for, as far as its words tell: the form of the answer and its topics.
//!
//! The last message of the user counts, and the system's; earlier ones only where the last says
//! that the answer was not right. A first pass over a text marks what it may ask for; only what is
//! marked is then looked at closely (`forms`).

use std::sync::Arc;

use crate::cache::Cache;
use crate::forms;
use crate::marks::{self, mark};
use crate::request::{Message, Role};
use crate::words::Words;

/// Topics that are kept, at most.
const MOST_TOPICS: usize = 24;
/// Topics below this number are made up from the messages before.
const FEW_TOPICS: usize = 3;
/// Shorter words say nothing.
const SHORTEST: usize = 3;
const SHORTEST_TOPIC: usize = 5;
const LONGEST_TOPIC: usize = 20;

/// The form that a text asks for. What it does not mention is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Form {
    /// The answer is one of these.
    pub(crate) choices: Vec<String>,
    /// Lines that stand above the parts of the answer, as they are to be written.
    pub(crate) headings: Vec<String>,
    pub(crate) list: Option<List>,
    /// The lowest and the highest score.
    pub(crate) score: Option<(i64, i64)>,
    /// Nothing but the score.
    pub(crate) bare: bool,
    pub(crate) length: Length,
    /// JSON is asked for.
    pub(crate) json: Option<Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) numbered: bool,
    /// None: some.
    pub(crate) items: Option<usize>,
}

/// How long an answer is to be; all empty where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) words: Option<usize>,
    pub(crate) sentences: Option<usize>,
    pub(crate) paragraphs: Option<usize>,
    /// The numbers are for each part of the answer.
    pub(crate) each: bool,
    pub(crate) title: bool,
    pub(crate) short: bool,
}

impl Length {
    const fn is_counted(&self) -> bool {
        self.words.is_some() || self.sentences.is_some() || self.paragraphs.is_some()
    }
}

/// JSON as a prompt asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// No more than that.
    Any,
    /// With these keys.
    Keys(Vec<String>),
    /// The text of a JSON schema.
    Schema(String),
    /// The text of an example.
    Example(String),
}

impl Form {
    /// Takes over from `other` what this one does not say.
    fn or(&mut self, other: &Self) {
        if self.choices.is_empty() {
            self.choices.clone_from(&other.choices);
        }
        if self.headings.is_empty() {
            self.headings.clone_from(&other.headings);
        }
        if self.score.is_none() {
            (self.score, self.bare) = (other.score, other.bare);
        }
        self.list = self.list.or(other.list);
        // Numbers anywhere say more than "short" does.
        if self.length == Length::default() || other.length.is_counted() && !self.length.is_counted() {
            self.length = other.length;
        }
        if matches!(self.json, None | Some(Json::Any)) && other.json.is_some() {
            self.json.clone_from(&other.json);
        }
    }
}

/// What one scan of a text finds.
struct Scan<'a> {
    topics: Vec<&'a str>,
    marks: u8,
}

/// What the messages ask for, and the words they are about.
pub(crate) struct Brief<'a> {
    pub(crate) form: Form,
    pub(crate) topics: Vec<&'a str>,
}

impl<'a> Brief<'a> {
    /// Reads a conversation. The forms of system messages are kept in `known`, because they come often.
    pub(crate) fn read(messages: &'a [Message<'a>], known: &Cache<Form>) -> Self {
        let mut brief = Self { form: Form::default(), topics: Vec::new() };
        let mut bloom = 0;
        let mut again = true;
        for message in messages.iter().rev().filter(|message| message.role == Role::User) {
            let text = &*message.content.0;
            let scan = scan(text, &mut bloom);
            if again {
                brief.form.or(&forms::read(text, scan.marks));
                again = scan.marks & mark::AGAIN != 0;
            }
            if brief.topics.is_empty() {
                brief.topics = scan.topics;
            } else if brief.topics.len() < FEW_TOPICS {
                brief.topics.extend(scan.topics);
            }
            if !again && brief.topics.len() >= FEW_TOPICS {
                break;
            }
        }
        for message in messages.iter().rev().filter(|message| matches!(message.role, Role::System | Role::Developer)) {
            let text = &*message.content.0;
            let form: Arc<Form> = known.get(text, || forms::read(text, scan(text, &mut 0).marks));
            brief.form.or(&form);
            if brief.topics.len() < FEW_TOPICS {
                brief.topics.extend(scan(text, &mut bloom).topics);
            }
        }
        brief
    }
}

/// Reads the words of a text: what they may ask for, and longer ones that it may be about.
///
/// bloom: remembers the topics that were taken, so that each is taken once.
fn scan<'a>(text: &'a str, bloom: &mut u64) -> Scan<'a> {
    let bytes = text.as_bytes();
    let mut found = Scan { topics: Vec::new(), marks: 0 };
    let mut name: Option<(usize, usize)> = None;
    for (start, end) in Words::of(text).filter(|(start, end)| end - start >= SHORTEST) {
        let key = marks::key(bytes, start, end);
        let marks = marks::of(key);
        found.marks |= marks;
        let fits = marks == 0 && (SHORTEST_TOPIC..=LONGEST_TOPIC).contains(&(end - start));
        if fits && found.topics.len() < MOST_TOPICS && is_topic(bytes, start, end) {
            let bit = 1 << (key & 63);
            if *bloom & bit != 0 {
                continue;
            }
            *bloom |= bit;
            let capital = bytes[start].is_ascii_uppercase();
            let mut begin = start;
            if let Some(last) = name.filter(|last| capital && last.1 + 1 == start && bytes[last.1] == b' ') {
                // Two names in a row are one: "South America".
                found.topics.pop();
                begin = last.0;
            }
            found.topics.push(&text[begin..end]);
            name = capital.then_some((begin, end));
        }
    }
    found
}

/// Whether a word reads well as a thing: plain letters, no label, no form of a verb, no adverb, and
/// if it has a capital letter then because it is a name.
fn is_topic(bytes: &[u8], start: usize, end: usize) -> bool {
    let word = &bytes[start..end];
    let form = word.ends_with(b"ly") || word.ends_with(b"ing") || word.ends_with(b"ed");
    let loud = word[0].is_ascii_uppercase() && (word[1].is_ascii_uppercase() || opens(&bytes[..start]));
    let label = bytes.get(end) == Some(&b':');
    !form && !loud && !label && word.is_ascii()
}

/// Whether a sentence, a line or a label ends where a text does.
fn opens(before: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80;
    let gap = before.iter().rposition(letter).map_or(before, |last| &before[last + 1..]);
    gap.len() == before.len() || gap.iter().any(|byte| matches!(byte, b'.' | b'!' | b'?' | b'\n' | b':' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Text;
    use std::borrow::Cow;

    fn brief(turns: &[(Role, &str)]) -> (Form, Vec<String>) {
        let messages: Vec<_> = turns.iter().map(|&(role, text)| Message { role, content: Text(Cow::Owned(text.to_owned())) }).collect();
        let brief = Brief::read(&messages, &Cache::default());
        (brief.form, brief.topics.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn topics_are_the_things_of_the_last_question() {
        let (_, topics) = brief(&[
            (Role::User, "Describe the mountains."),
            (Role::Assistant, "Glaciers."),
            (Role::User, "Customers wrote angrily about the laptop, the North Berlin office and the charger; the laptop was repairing."),
        ]);
        assert_eq!(topics, ["laptop", "North Berlin", "office", "charger"]);
    }

    #[test]
    fn the_form_of_an_earlier_question_counts_when_it_is_asked_again() {
        let asked = (Role::User, "How angry? Answer with exactly one of: calm, angry");
        let answer = (Role::Assistant, "maybe");
        let (form, _) = brief(&[asked, answer, (Role::User, "That is not one of the choices. Answer again.")]);
        assert_eq!(form.choices, ["calm", "angry"]);
        let (form, _) = brief(&[asked, answer, (Role::User, "Thanks. Now tell me a story.")]);
        assert_eq!(form.choices, [""; 0]);
    }

    #[test]
    fn the_system_message_fills_what_the_user_leaves_open() {
        let system = (Role::System, "Answer in one sentence. Use the headings PROBLEM and REMEDY.");
        let (form, _) = brief(&[system, (Role::User, "Why? Three sentences, please.")]);
        assert_eq!(form.headings, ["PROBLEM", "REMEDY"]);
        assert_eq!(form.length.sentences, Some(3));
    }
}
