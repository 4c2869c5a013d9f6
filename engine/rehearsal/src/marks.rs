//! Words that say something about the form of an answer, and words that no answer is about.
//!
//! A perfect table, laid out by the compiler: a text is scanned once, and each of its words costs
//! one look-up.

/// What a word of a request may mean, as bits.
pub(crate) mod mark {
    /// Nobody's topic.
    pub(crate) const COMMON: u16 = 1;
    pub(crate) const HEADING: u16 = 2;
    pub(crate) const CHOICE: u16 = 4;
    pub(crate) const LIST: u16 = 8;
    pub(crate) const SCORE: u16 = 16;
    pub(crate) const LENGTH: u16 = 32;
    pub(crate) const JSON: u16 = 64;
    /// The last answer was not as it should be.
    pub(crate) const AGAIN: u16 = 128;
}

const WORDS: &[(u16, &[&str])] = &[
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

/// The hash of a word; goes on byte by byte from `START`.
pub(crate) const START: u32 = 0x811C_9DC5;

/// One more byte of a word, whose case does not matter.
pub(crate) const fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ (byte | 0x20) as u32).wrapping_mul(0x0100_0193)
}

const fn slot(hash: u32) -> usize {
    ((hash ^ (hash >> 13)) as usize) & (SIZE - 1)
}

static TABLE: [(u32, u16); SIZE] = {
    let mut table = [(0, 0); SIZE];
    let mut group = 0;
    while group < WORDS.len() {
        let (mark, words) = WORDS[group];
        let mut word = 0;
        while word < words.len() {
            let bytes = words[word].as_bytes();
            let (mut hash, mut at) = (START, 0);
            while at < bytes.len() {
                hash = step(hash, bytes[at]);
                at += 1;
            }
            let mut place = slot(hash);
            while table[place].1 != 0 && table[place].0 != hash {
                place = (place + 1) & (SIZE - 1);
            }
            table[place] = (hash, table[place].1 | mark);
            word += 1;
        }
        group += 1;
    }
    table
};

/// What the word with this hash means; 0 for a word that is not in the table.
pub(crate) fn of(hash: u32) -> u16 {
    let mut place = slot(hash);
    loop {
        let (other, mark) = TABLE[place];
        if mark == 0 || other == hash {
            return mark;
        }
        place = (place + 1) & (SIZE - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(word: &str) -> u16 {
        of(word.bytes().fold(START, step))
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
        for word in ["laptop", "customer", "zebra", "considerations", "harbour", ""] {
            assert_eq!(look(word), 0, "{word}");
        }
    }
}
