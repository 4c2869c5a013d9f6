//! Texts that match a regular expression: the part of ECMA-262's syntax that schemas use.
//!
//! Classes, groups, alternatives, quantifiers, anchors and the usual escapes. Looking around and
//! back-references are refused, with a sentence: what they allow cannot be drawn.

use crate::random::Random;

/// Repeats without an upper bound go this far beyond the lower one.
const REACH: usize = 6;
const MOST_REPEATS: usize = 1000;
const DEEPEST: usize = 40;
/// What one text may hold; a pattern of nested repeats stops there.
const LONGEST: usize = 64 * 1024;

/// A pattern that texts can be drawn from.
#[derive(Debug)]
pub(crate) struct Pattern(Node);

#[derive(Debug)]
enum Node {
    Literal(char),
    /// Ranges of characters, both ends included; never empty.
    Class(Vec<(char, char)>),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, usize),
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
        Ok(Self(node))
    }

    /// Appends a text that matches. `spread` is 0 for the shortest repeats and 1 for the longest.
    pub(crate) fn write(&self, random: &mut Random, spread: f64, out: &mut String) {
        write(&self.0, random, spread, out);
    }
}

fn write(node: &Node, random: &mut Random, spread: f64, out: &mut String) {
    match node {
        Node::Literal(letter) => out.push(*letter),
        Node::Class(ranges) => out.push(draw(ranges, random)),
        Node::Sequence(nodes) => nodes.iter().for_each(|node| write(node, random, spread, out)),
        Node::Either(nodes) => {
            let chosen = random.below(nodes.len());
            write(&nodes[chosen], random, spread, out);
        }
        Node::Repeat(node, least, most) => {
            let most = least + ((most - least) as f64 * spread).round() as usize;
            for _ in 0..random.between(*least, most) {
                if out.len() > LONGEST {
                    return;
                }
                write(node, random, spread, out);
            }
        }
    }
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
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Either(branches) })
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
                '.' => Node::Class(ANY.to_vec()),
                '[' => Node::Class(self.class()?),
                '(' => self.group(depth)?,
                '\\' => match self.escape()? {
                    Some(node) => node,
                    None => continue,
                },
                '*' | '+' | '?' => return Err(format!("repeats nothing at character {}", self.at)),
                letter => Node::Literal(letter),
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Sequence(nodes) })
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
        Ok(Node::Repeat(Box::new(node), least, most.unwrap_or(least + REACH).min(MOST_REPEATS.max(least))))
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
            Escape::Letter(letter) => Node::Literal(letter),
            Escape::Ranges(ranges) => Node::Class(ranges),
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
                pattern.write(&mut random, 1.0, &mut out);
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
        let pattern = Pattern::parse("((((a{100}){100}){100}){100}){100}").unwrap();
        let mut out = String::new();
        pattern.write(&mut Random::new(1), 1.0, &mut out);
        assert!(out.len() < 2 * LONGEST);
    }
}
