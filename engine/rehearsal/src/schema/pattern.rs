//! Texts that match a regular expression: the part of ECMA-262's syntax that schemas use.
//!
//! Classes, groups, alternatives, quantifiers, anchors and the usual escapes. Looking around and
//! back-references are refused, with a sentence: what they allow cannot be drawn.

use crate::random::Random;

/// Repeats go this far beyond the fewest that are needed.
const REACH: usize = 6;
const MOST_REPEATS: usize = 1000;
const DEEPEST: usize = 40;
/// What one text may hold; a pattern of nested repeats stops there.
const LONGEST: usize = 64 * 1024;
/// Repeats of parts that may be empty, in one text.
const MOST_ROUNDS: usize = 10_000;

/// A pattern that texts can be drawn from.
#[derive(Debug)]
pub(crate) struct Pattern(Node);

/// A part of a pattern, with the lengths of what it matches, in characters.
#[derive(Debug)]
struct Node {
    kind: Kind,
    shortest: usize,
    longest: usize,
}

/// The shortest and the longest that something can be.
type Lengths = (usize, usize);

#[derive(Debug)]
enum Kind {
    Literal(char),
    /// Ranges of characters, both ends included; never empty.
    Class(Vec<(char, char)>),
    /// Each part with the lengths of all that is behind it.
    Sequence(Vec<(Node, Lengths)>),
    Either(Vec<Node>),
    /// So many times at least and, unless it is open, at most.
    Repeat(Box<Node>, usize, Option<usize>),
}

const DIGITS: &[(char, char)] = &[('0', '9')];
const LETTERS: &[(char, char)] = &[('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')];
const SPACES: &[(char, char)] = &[(' ', ' ')];
/// What a class can be the contrary of.
const PRINTABLE: (char, char) = (' ', '~');
/// What `.` stands for: readable texts.
const ANY: &[(char, char)] = &[('a', 'z'), ('a', 'z'), ('A', 'Z'), ('0', '9'), (' ', ' ')];

impl Pattern {
    /// Reads a pattern. The error is the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let letters: Vec<char> = text.chars().collect();
        let mut parser = Parser { letters: &letters, at: 0 };
        let node = parser.either(0)?;
        if parser.at < letters.len() {
            return Err(format!("has a ) too many at character {}", parser.at + 1));
        }
        if node.shortest > LONGEST {
            return Err(format!("matches no text below {} characters, and the rehearsal model writes at most {LONGEST}", node.shortest));
        }
        Ok(Self(node))
    }

    /// Appends a text that matches, with a length between `low` and `high` characters where the
    /// pattern has one.
    pub(crate) fn write(&self, random: &mut Random, low: usize, high: usize, out: &mut String) {
        self.0.write(random, low, high.min(LONGEST), &mut Draft { text: out, rounds: 0 });
    }
}

/// A text that is being written.
struct Draft<'a> {
    text: &'a mut String,
    /// Repeats of parts that may be empty, so far.
    rounds: usize,
}

impl From<Kind> for Node {
    fn from(kind: Kind) -> Self {
        let (shortest, longest) = match &kind {
            Kind::Literal(_) | Kind::Class(_) => (1, 1),
            Kind::Sequence(parts) => parts.first().map_or((0, 0), |(node, left)| plus((node.shortest, node.longest), *left)),
            Kind::Either(nodes) => {
                (nodes.iter().map(|node| node.shortest).min().unwrap_or(0), nodes.iter().map(|node| node.longest).max().unwrap_or(0))
            }
            Kind::Repeat(node, least, most) => {
                let most = most.unwrap_or(usize::MAX);
                (node.shortest.saturating_mul(*least), node.longest.saturating_mul(most))
            }
        };
        Self { kind, shortest, longest }
    }
}

impl Node {
    /// Appends a text of `low` to `high` characters, as far as that can be; how many it has.
    fn write(&self, random: &mut Random, low: usize, high: usize, out: &mut Draft<'_>) -> usize {
        match &self.kind {
            Kind::Literal(letter) => {
                out.text.push(*letter);
                1
            }
            Kind::Class(ranges) => {
                out.text.push(draw(ranges, random));
                1
            }
            Kind::Sequence(parts) => {
                let mut written = 0;
                for (node, left) in parts {
                    written += node.share(random, (low, high), *left, written, out);
                }
                written
            }
            Kind::Either(nodes) => {
                let fits = |node: &&Node| node.shortest <= high && node.longest >= low;
                let fitting: Vec<_> = nodes.iter().filter(fits).collect();
                let node = if fitting.is_empty() { &nodes[random.below(nodes.len())] } else { fitting[random.below(fitting.len())] };
                node.write(random, low, high, out)
            }
            Kind::Repeat(node, ..) if node.longest == 0 => 0,
            Kind::Repeat(node, least, most) => {
                let most = most.unwrap_or(usize::MAX);
                // A part that may be empty matches as often as it must without another character.
                let least = if node.shortest == 0 { 0 } else { *least };
                let needed = low.div_ceil(node.longest).clamp(least, most);
                let possible = high.checked_div(node.shortest).unwrap_or(usize::MAX).min(most).min(needed.saturating_add(REACH));
                let times = random.between(needed, possible);
                let mut written = 0;
                for number in 1..=times {
                    out.rounds += usize::from(node.shortest == 0);
                    if out.text.len() > LONGEST || (node.shortest == 0 && out.rounds > MOST_ROUNDS) {
                        break;
                    }
                    let left = ((times - number).saturating_mul(node.shortest), (times - number).saturating_mul(node.longest));
                    written += node.share(random, (low, high), left, written, out);
                }
                written
            }
        }
    }

    /// The same for a part: what is before it has `written` characters, and what is behind it will
    /// have between the two of `left`.
    fn share(&self, random: &mut Random, (low, high): Lengths, left: Lengths, written: usize, out: &mut Draft<'_>) -> usize {
        let low = low.saturating_sub(written).saturating_sub(left.1);
        let high = high.saturating_sub(written).saturating_sub(left.0);
        self.write(random, low, high, out)
    }
}

fn plus(one: Lengths, other: Lengths) -> Lengths {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

/// A sequence of parts, each told what is behind it.
fn sequence(nodes: Vec<Node>) -> Node {
    let mut left = (0, 0);
    let mut parts = Vec::with_capacity(nodes.len());
    for node in nodes.into_iter().rev() {
        let lengths = (node.shortest, node.longest);
        parts.push((node, left));
        left = plus(left, lengths);
    }
    parts.reverse();
    Kind::Sequence(parts).into()
}

fn draw(ranges: &[(char, char)], random: &mut Random) -> char {
    let size = |&(low, high): &(char, char)| high as usize - low as usize + 1;
    let mut place = random.below(ranges.iter().map(size).sum());
    for range in ranges {
        if place < size(range) {
            return char::from_u32(range.0 as u32 + place as u32).unwrap_or(range.0);
        }
        place -= size(range);
    }
    ranges[0].0
}

struct Parser<'a> {
    letters: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.peek();
        self.at += usize::from(letter.is_some());
        letter
    }

    fn eat(&mut self, letter: char) -> bool {
        let found = self.peek() == Some(letter);
        self.at += usize::from(found);
        found
    }

    fn looks_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, letter)| self.letters.get(self.at + offset) == Some(&letter))
    }

    fn either(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEEPEST {
            return Err(format!("has groups more than {DEEPEST} deep"));
        }
        let mut branches = vec![self.sequence(depth)?];
        while self.eat('|') {
            branches.push(self.sequence(depth)?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Kind::Either(branches).into() })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(letter) = self.peek() {
            if matches!(letter, '|' | ')') {
                break;
            }
            self.at += 1;
            let node = match letter {
                '^' | '$' => continue,
                '.' => Kind::Class(ANY.to_vec()).into(),
                '[' => Kind::Class(self.class()?).into(),
                '(' => self.group(depth)?,
                '\\' => match self.escape()? {
                    Some(node) => node,
                    None => continue,
                },
                '*' | '+' | '?' => return Err(format!("repeats nothing at character {}", self.at)),
                letter => Kind::Literal(letter).into(),
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { sequence(nodes) })
    }

    fn group(&mut self, depth: usize) -> Result<Node, String> {
        if self.eat('?') {
            if self.looks_at("=") || self.looks_at("!") || self.looks_at("<=") || self.looks_at("<!") {
                return Err("looks ahead or behind, which the rehearsal model cannot follow".into());
            }
            if self.eat('<') || (self.eat('P') && self.eat('<')) {
                while self.take().ok_or("has a group name without an end")? != '>' {}
            } else if !self.eat(':') {
                return Err(format!("has an unknown kind of group at character {}", self.at + 1));
            }
        }
        let node = self.either(depth + 1)?;
        if self.eat(')') {
            Ok(node)
        } else {
            Err("has a ( without a )".into())
        }
    }

    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts() {
                Some(counts) => counts,
                None => return Ok(node),
            },
            _ => return Ok(node),
        };
        self.at += 1;
        // Lazy or greedy makes no difference to what matches.
        self.eat('?');
        if least > MOST_REPEATS || most.is_some_and(|most| most < least) {
            return Err(format!("repeats {least} times at character {}, which cannot be drawn", self.at));
        }
        Ok(Kind::Repeat(Box::new(node), least, most.map(|most| most.min(MOST_REPEATS))).into())
    }

    /// `{2}`, `{2,}` or `{2,5}`; leaves the place at the closing brace. None if it is no quantifier.
    fn counts(&mut self) -> Option<(usize, Option<usize>)> {
        let end = self.at + self.letters[self.at..].iter().position(|&letter| letter == '}')?;
        let inside: String = self.letters[self.at + 1..end].iter().collect();
        let counts = match inside.split_once(',') {
            None => inside.parse().ok().map(|times| (times, Some(times))),
            Some((least, "")) => least.parse().ok().map(|least| (least, None)),
            Some((least, most)) => least.parse().ok().zip(most.parse().ok().map(Some)),
        }?;
        self.at = end;
        Some(counts)
    }

    /// What follows a backslash outside of a class; None for what matches no character.
    fn escape(&mut self) -> Result<Option<Node>, String> {
        if matches!(self.peek(), Some('b' | 'B' | 'A' | 'z' | 'Z')) {
            self.at += 1;
            return Ok(None);
        }
        if matches!(self.peek(), Some('1'..='9' | 'k')) {
            return Err("refers back to a group, which the rehearsal model cannot follow".into());
        }
        Ok(Some(match self.class_escape()? {
            Escape::Letter(letter) => Kind::Literal(letter).into(),
            Escape::Ranges(ranges) => Kind::Class(ranges).into(),
        }))
    }

    fn class_escape(&mut self) -> Result<Escape, String> {
        let letter = self.take().ok_or("ends with a backslash")?;
        Ok(match letter {
            'd' => Escape::Ranges(DIGITS.to_vec()),
            'w' => Escape::Ranges(LETTERS.to_vec()),
            's' => Escape::Ranges(SPACES.to_vec()),
            'D' => Escape::Ranges(contrary(DIGITS)?),
            'W' => Escape::Ranges(contrary(LETTERS)?),
            'S' => Escape::Ranges(contrary(SPACES)?),
            'n' => Escape::Letter('\n'),
            'r' => Escape::Letter('\r'),
            't' => Escape::Letter('\t'),
            'f' => Escape::Letter('\u{c}'),
            'v' => Escape::Letter('\u{b}'),
            '0' => Escape::Letter('\0'),
            'x' => Escape::Letter(self.code(2)?),
            'u' if self.eat('{') => {
                let end = self.letters[self.at..].iter().position(|&letter| letter == '}').ok_or("has a \\u{ without a }")?;
                let letter = self.code(end)?;
                self.at += 1;
                Escape::Letter(letter)
            }
            'u' => Escape::Letter(self.code(4)?),
            'p' | 'P' => Escape::Ranges(self.property(letter == 'P')?),
            letter => Escape::Letter(letter),
        })
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let end = self.at + digits;
        let text: String = self.letters.get(self.at..end).unwrap_or_default().iter().collect();
        self.at = end.min(self.letters.len());
        u32::from_str_radix(&text, 16).ok().and_then(char::from_u32).ok_or_else(|| format!("names no character with {text:?}"))
    }

    /// `\p{Lu}` and the like: their plain letters.
    fn property(&mut self, contrary_: bool) -> Result<Vec<(char, char)>, String> {
        let name: String = if self.eat('{') {
            let rest = &self.letters[self.at..];
            let end = rest.iter().position(|&letter| letter == '}').ok_or("has a \\p{ without a }")?;
            self.at += end + 1;
            rest[..end].iter().collect()
        } else {
            self.take().into_iter().collect()
        };
        let ranges: &[(char, char)] = match name.as_str() {
            "L" | "Letter" | "Alphabetic" | "Alpha" => &[('a', 'z'), ('A', 'Z')],
            "Lu" | "Uppercase" | "Uppercase_Letter" => &[('A', 'Z')],
            "Ll" | "Lowercase" | "Lowercase_Letter" => &[('a', 'z')],
            "N" | "Nd" | "Number" => DIGITS,
            "P" | "Punctuation" => &[('!', '#'), ('%', '*'), (',', '/')],
            "Z" | "Zs" | "White_Space" | "Space" => SPACES,
            _ => return Err(format!("uses the class \\p{{{name}}}, which the rehearsal model does not know")),
        };
        if contrary_ {
            contrary(ranges)
        } else {
            Ok(ranges.to_vec())
        }
    }

    /// A class, behind its opening bracket.
    fn class(&mut self) -> Result<Vec<(char, char)>, String> {
        let negated = self.eat('^');
        let mut ranges = Vec::new();
        loop {
            let letter = self.take().ok_or("has a [ without a ]")?;
            let low = match letter {
                ']' => break,
                '\\' if self.eat('b') => '\u{8}',
                '\\' => match self.class_escape()? {
                    Escape::Letter(letter) => letter,
                    Escape::Ranges(more) => {
                        ranges.extend(more);
                        continue;
                    }
                },
                letter => letter,
            };
            let to = self.peek() == Some('-') && self.letters.get(self.at + 1).is_some_and(|&next| next != ']');
            if !to {
                ranges.push((low, low));
                continue;
            }
            self.at += 1;
            let high = match self.take().ok_or("has a [ without a ]")? {
                '\\' => match self.class_escape()? {
                    Escape::Letter(letter) => letter,
                    // `[a-\d]`: the minus is itself.
                    Escape::Ranges(more) => {
                        ranges.extend(more);
                        ranges.push(('-', '-'));
                        low
                    }
                },
                letter => letter,
            };
            if high < low {
                return Err(format!("has the range {low}-{high}, whose ends are the wrong way round"));
            }
            ranges.push((low, high));
        }
        if negated {
            contrary(&ranges)
        } else if ranges.is_empty() {
            Err("has an empty class, which matches nothing".into())
        } else {
            Ok(ranges)
        }
    }
}

enum Escape {
    Letter(char),
    Ranges(Vec<(char, char)>),
}

/// The printable ASCII characters outside of `ranges`.
fn contrary(ranges: &[(char, char)]) -> Result<Vec<(char, char)>, String> {
    let free = |letter: char| !ranges.iter().any(|&(low, high)| (low..=high).contains(&letter));
    let mut others: Vec<(char, char)> = (PRINTABLE.0..=PRINTABLE.1).filter(|&letter| free(letter)).map(|letter| (letter, letter)).collect();
    // Letters and digits alone read better, where they are enough.
    let plain: Vec<_> = others.iter().copied().filter(|(letter, _)| letter.is_ascii_alphanumeric()).collect();
    if !plain.is_empty() {
        others = plain;
    }
    if others.is_empty() {
        Err("has a class that leaves out every plain character".into())
    } else {
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(pattern: &str) -> Vec<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let mut random = Random::new(4);
        (0..200)
            .map(|_| {
                let mut out = String::new();
                pattern.write(&mut random, 0, usize::MAX, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn texts_have_the_shape_of_the_pattern() {
        for text in draws("^[A-Z]{2}-[0-9]{6}$") {
            let (letters, digits) = text.split_once('-').unwrap();
            assert!(letters.len() == 2 && letters.bytes().all(|byte| byte.is_ascii_uppercase()), "{text}");
            assert!(digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        }
        assert!(draws("(?:cat|dog)s?").iter().all(|text| ["cat", "cats", "dog", "dogs"].contains(&text.as_str())));
        assert!(draws("^(?<a>x){2,4}?$").iter().all(|text| (2..=4).contains(&text.len())));
        assert!(draws(r"[^a-z\d]").iter().all(|text| text.bytes().all(|byte| byte.is_ascii_uppercase())));
        assert!(draws(r"\u0041\x42\.\{2\}{3}").iter().all(|text| text == "AB.{2}}}"));
        assert!(draws(r"[\w.-]+@[a\-z]").iter().all(|text| text.ends_with(['a', '-', 'z'])));
        assert!(draws(r"\p{Lu}\P{Lu}").iter().all(|text| text.as_bytes()[0].is_ascii_uppercase()));
        assert!(draws("a{,2}").iter().all(|text| text == "a{,2}"));
    }

    #[test]
    fn lengths_are_kept_where_the_pattern_has_them() {
        let mut random = Random::new(6);
        for (pattern, low, high) in [
            ("^[a-z]+( [a-z]+)*$", 12, 16),
            ("^[a-z]*$", 300, 310),
            ("^(ab|c{3,}|d)$", 40, 41),
            ("^(x{2,5}y?){1,4}$", 20, 24),
            ("^a*b*c*$", 0, 1),
            ("^(a|b*)(c|d+)$", 9, 9),
            ("^((a+b)+ )*$", 100, 120),
        ] {
            let read = Pattern::parse(pattern).unwrap();
            for _ in 0..200 {
                let mut out = String::new();
                read.write(&mut random, low, high, &mut out);
                assert!((low..=high).contains(&out.len()), "{pattern}: {out}");
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let says = |pattern| Pattern::parse(pattern).unwrap_err();
        assert_eq!(says("(?=a)b"), "looks ahead or behind, which the rehearsal model cannot follow");
        assert_eq!(says(r"(a)\1"), "refers back to a group, which the rehearsal model cannot follow");
        assert_eq!(says("(a"), "has a ( without a )");
        assert_eq!(says("a)"), "has a ) too many at character 2");
        assert_eq!(says("[z-a]"), "has the range z-a, whose ends are the wrong way round");
        assert_eq!(says("*a"), "repeats nothing at character 1");
        assert_eq!(says("[]"), "has an empty class, which matches nothing");
        assert_eq!(says(r"\p{Greek}"), r"uses the class \p{Greek}, which the rehearsal model does not know");
        assert_eq!(says("[\\s\\S^"), "has a [ without a ]");
        assert!(says(&"(".repeat(100)).contains("more than 40 deep"));
    }

    #[test]
    fn nested_repeats_come_to_an_end() {
        for pattern in [
            "((((a{1,100}){1,100}){1,100}){1,100}){1,100}",
            "(((((){1000}){1000}){1000}){1000}){1000}",
            "((((((((a?){9})*)*)*)*)*)*){1000}",
        ] {
            let read = Pattern::parse(pattern).unwrap();
            for high in [0, usize::MAX] {
                let mut out = String::new();
                read.write(&mut Random::new(1), 0, high, &mut out);
                assert!(out.len() < 2 * LONGEST, "{pattern}");
            }
        }
        let endless = Pattern::parse("(((a{100}){100}){100}){100}").unwrap_err();
        assert_eq!(endless, "matches no text below 100000000 characters, and the rehearsal model writes at most 65536");
    }
}
