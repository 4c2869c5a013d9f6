//! Words that say something about the form of an answer, and words that no answer is about.
//!
//! A table laid out by the compiler: a text is scanned once, and each of its words costs one look-up.

/// What a word of a request may mean, as bits.
pub(crate) mod mark {
    /// Nobody's topic.
    pub(crate) const COMMON: u8 = 1;
    pub(crate) const HEADING: u8 = 2;
    pub(crate) const CHOICE: u8 = 4;
    pub(crate) const LIST: u8 = 8;
    pub(crate) const SCORE: u8 = 16;
    pub(crate) const LENGTH: u8 = 32;
    pub(crate) const JSON: u8 = 64;
    /// The last answer was not as it should be.
    pub(crate) const AGAIN: u8 = 128;
}

const WORDS: &[(u8, &[&str])] = &[
    (
        mark::COMMON,
        &[
            "about",
            "above",
            "across",
            "actually",
            "after",
            "again",
            "against",
            "almost",
            "along",
            "already",
            "also",
            "although",
            "always",
            "among",
            "another",
            "anyone",
            "anything",
            "around",
            "assistant",
            "based",
            "because",
            "become",
            "before",
            "behind",
            "being",
            "below",
            "better",
            "between",
            "beyond",
            "both",
            "cannot",
            "certain",
            "clear",
            "clearly",
            "complete",
            "consider",
            "could",
            "create",
            "describe",
            "detailed",
            "different",
            "discuss",
            "does",
            "doing",
            "down",
            "during",
            "each",
            "either",
            "else",
            "enough",
            "every",
            "everyone",
            "everything",
            "explain",
            "first",
            "follow",
            "from",
            "generate",
            "given",
            "gives",
            "good",
            "great",
            "have",
            "having",
            "helpful",
            "here",
            "however",
            "imagine",
            "include",
            "indeed",
            "into",
            "itself",
            "just",
            "kind",
            "know",
            "large",
            "later",
            "least",
            "less",
            "like",
            "likely",
            "little",
            "made",
            "make",
            "makes",
            "many",
            "maybe",
            "mention",
            "might",
            "more",
            "most",
            "much",
            "must",
            "need",
            "needs",
            "never",
            "next",
            "nothing",
            "often",
            "only",
            "other",
            "others",
            "otherwise",
            "output",
            "over",
            "own",
            "particular",
            "perhaps",
            "please",
            "possible",
            "produce",
            "prompt",
            "provide",
            "quite",
            "rather",
            "really",
            "reply",
            "request",
            "respond",
            "response",
            "return",
            "same",
            "second",
            "seem",
            "several",
            "shall",
            "should",
            "show",
            "simple",
            "since",
            "small",
            "some",
            "someone",
            "something",
            "specific",
            "still",
            "such",
            "suggest",
            "sure",
            "take",
            "takes",
            "tell",
            "tells",
            "text",
            "than",
            "that",
            "their",
            "theirs",
            "them",
            "themselves",
            "then",
            "there",
            "therefore",
            "these",
            "they",
            "thing",
            "things",
            "think",
            "third",
            "this",
            "those",
            "though",
            "three",
            "through",
            "thus",
            "together",
            "toward",
            "towards",
            "under",
            "until",
            "unless",
            "upon",
            "used",
            "useful",
            "using",
            "usually",
            "various",
            "very",
            "want",
            "wants",
            "well",
            "were",
            "what",
            "whatever",
            "when",
            "where",
            "whether",
            "which",
            "while",
            "whole",
            "whose",
            "will",
            "with",
            "within",
            "without",
            "would",
            "write",
            "writes",
            "writing",
            "written",
            "your",
            "yours",
            "yourself",
            "user",
            "model",
            "language",
            "true",
            "false",
            "null",
            "object",
            "string",
            "array",
            "value",
            "values",
            "valid",
            "exact",
            "wrote",
            "spoke",
            "found",
            "thought",
            "bought",
            "brought",
            "began",
            "became",
            "understand",
            "angry",
            "happy",
            "calm",
            "polite",
            "friendly",
            "recent",
            "vivid",
            "formal",
            "casual",
            "strong",
            "weak",
            "major",
            "minor",
            "plain",
            "current",
            "important",
            "necessary",
            "careful",
            "increase",
            "reduce",
            "decide",
            "decided",
            "happen",
            "happened",
            "listen",
            "leave",
            "start",
            "begin",
            "mean",
            "means",
            "meant",
            "keep",
            "kept",
            "later",
            "early",
            "exist",
            "weigh",
            "whose",
            "whom",
            "quickly",
            "whether",
            "rather",
            "toward",
            "enough",
            "become",
            "cause",
            "bring",
            "brings",
            "hold",
            "told",
            "heard",
            "learn",
            "learnt",
            "taught",
            "spend",
            "spent",
            "stand",
            "stood",
            "towards",
            "where",
            "lives",
            "live",
            "lived",
            "judge",
            "answer",
            "answers",
            "question",
            "speak",
            "avoid",
            "ensure",
            "allow",
            "allows",
            "remain",
            "remains",
            "appear",
            "appears",
            "consists",
            "contains",
            "contain",
            "depend",
            "depends",
            "require",
            "requires",
            "affect",
            "affects",
            "solve",
            "solved",
            "agree",
            "accept",
            "reach",
            "begins",
            "makes",
            "shows",
            "seems",
            "looks",
            "feels",
            "asks",
            "knows",
            "thinks",
            "taken",
            "happens",
            "comes",
        ],
    ),
    (
        mark::COMMON | mark::HEADING,
        &[
            "heading",
            "headings",
            "header",
            "headers",
            "headed",
            "section",
            "sections",
            "titled",
            "labelled",
            "labeled",
            "labels",
            "format",
            "structure",
            "template",
            "parts",
            "layout",
        ],
    ),
    (mark::COMMON | mark::CHOICE, &["choose", "choices", "choice", "options", "exactly", "pick", "select", "classify", "one"]),
    (
        mark::COMMON | mark::LIST,
        &[
            "list",
            "numbered",
            "bullet",
            "bullets",
            "bulleted",
            "points",
            "items",
            "steps",
            "ideas",
            "examples",
            "reasons",
            "suggestions",
            "tips",
            "questions",
        ],
    ),
    (mark::COMMON | mark::SCORE, &["score", "scores", "rate", "rating", "scale", "grade", "number", "digit", "integer"]),
    (
        mark::COMMON | mark::LENGTH,
        &[
            "sentence",
            "sentences",
            "word",
            "words",
            "paragraph",
            "paragraphs",
            "title",
            "headline",
            "short",
            "brief",
            "briefly",
            "concise",
            "concisely",
            "shortly",
        ],
    ),
    (mark::COMMON | mark::JSON, &["json", "schema", "keys", "fields"]),
    (mark::COMMON | mark::AGAIN, &["again", "retry", "invalid", "missing", "correct", "corrected", "wrong", "error", "instead"]),
];

const SIZE: usize = 1024;
const SMALL: u64 = 0x2020_2020_2020_2020;

/// What a word is known by, whatever its case: its length and its last eight letters.
pub(crate) const fn key(bytes: &[u8], start: usize, end: usize) -> u32 {
    let length = end - start;
    let mut last = 0;
    if end >= 8 {
        let (_, tail) = bytes.split_at(end - 8);
        if let Some(eight) = tail.first_chunk() {
            last = u64::from_le_bytes(*eight);
        }
        if length < 8 {
            last >>= 8 * (8 - length);
        }
    } else {
        let mut at = end;
        while at > start {
            at -= 1;
            last = last << 8 | bytes[at] as u64;
        }
    }
    (((last | SMALL) ^ (length as u64) << 59).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

const fn slot(key: u32) -> usize {
    key as usize >> 22
}

static TABLE: ([u32; SIZE], [u8; SIZE]) = {
    let (mut keys, mut marks) = ([0; SIZE], [0; SIZE]);
    let mut group = 0;
    while group < WORDS.len() {
        let (mark, words) = WORDS[group];
        let mut word = 0;
        while word < words.len() {
            let bytes = words[word].as_bytes();
            let key = key(bytes, 0, bytes.len());
            let mut place = slot(key);
            while marks[place] != 0 && keys[place] != key {
                place = (place + 1) % SIZE;
            }
            keys[place] = key;
            marks[place] |= mark;
            word += 1;
        }
        group += 1;
    }
    (keys, marks)
};

/// What the word with this key means; 0 for a word that is not in the table.
pub(crate) fn of(key: u32) -> u8 {
    let (keys, marks) = &TABLE;
    let mut place = slot(key);
    while marks[place] != 0 && keys[place] != key {
        place = (place + 1) % SIZE;
    }
    marks[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(word: &str) -> u8 {
        // In the middle of a text and at its beginning a word is the same.
        let text = format!("some text before {word}");
        assert_eq!(of(key(word.as_bytes(), 0, word.len())), of(key(text.as_bytes(), 17, text.len())));
        of(key(word.as_bytes(), 0, word.len()))
    }

    #[test]
    fn every_word_is_found_in_any_case() {
        for (mark, words) in WORDS {
            for word in *words {
                assert_eq!(look(word) & mark, *mark, "{word}");
                assert_eq!(look(&word.to_ascii_uppercase()), look(word));
            }
        }
        assert_eq!(look("again"), mark::COMMON | mark::AGAIN);
    }

    #[test]
    fn other_words_mean_nothing() {
        for word in ["laptop", "customer", "zebra", "considerations", "harbour"] {
            assert_eq!(look(word), 0, "{word}");
        }
    }
}
