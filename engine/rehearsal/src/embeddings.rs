//! Embeddings: unit vectors in which texts that share words are near each other.
//!
//! Every word adds a few coordinates of its own (feature hashing), and the text as a whole a
//! little, so that no two texts are quite the same.

use crate::json;
use crate::random::{self, Random};
use crate::request::Embeddings;
use crate::wrong::Wrong;

const USUAL: usize = 256;
const MOST_DIMENSIONS: usize = 4096;
const MOST_INPUTS: usize = 2048;
const SPREAD: usize = 8;
/// Share of the whole text in its vector.
const OWN: f32 = 0.25;

/// The answer's body.
pub(crate) fn write(asked: &Embeddings<'_>, seed: u64, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let dimensions = asked.dimensions.unwrap_or(USUAL);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let message = format!("Invalid 'dimensions': expected a value from 1 to {MOST_DIMENSIONS}, but got {dimensions} instead.");
        return Err(Wrong::request(message, Some("dimensions")));
    }
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("Invalid 'encoding_format': expected 'float' or 'base64', but got '{other}' instead.");
            return Err(Wrong::request(message, Some("encoding_format")));
        }
    };
    let texts = asked.input.texts();
    if texts.is_empty() || texts.len() > MOST_INPUTS || texts.iter().any(String::is_empty) {
        let message = format!("Invalid 'input': expected 1 to {MOST_INPUTS} texts, none of them empty.");
        return Err(Wrong::request(message, Some("input")));
    }
    let seed = random::hash(random::mix(seed), asked.model.0.as_bytes());
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    let mut tokens = 0;
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        json::number(out, index as u64);
        out.extend_from_slice(b",\"embedding\":");
        let vector = vector(text, seed, dimensions);
        if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.push(b'"');
            encode(&bytes, out);
            out.push(b'"');
        } else {
            for (place, value) in vector.iter().enumerate() {
                out.extend_from_slice(if place == 0 { b"[" } else { b"," });
                out.extend_from_slice(value.to_string().as_bytes());
            }
            out.push(b']');
        }
        out.push(b'}');
        tokens += (text.len() as u64).div_ceil(4);
    }
    out.extend_from_slice(b"],\"model\":");
    json::string(out, &asked.model.0);
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    json::number(out, tokens);
    out.extend_from_slice(b",\"total_tokens\":");
    json::number(out, tokens);
    out.extend_from_slice(b"}}");
    Ok(())
}

fn vector(text: &str, seed: u64, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut random = Random::new(random::hash(seed, word.to_lowercase().as_bytes()));
        for _ in 0..SPREAD {
            let sign = if random.chance(1, 2) { 1.0 } else { -1.0 };
            vector[random.below(dimensions)] += sign;
        }
    }
    scale(&mut vector, 1.0);
    let mut random = Random::new(random::hash(!seed, text.as_bytes()));
    let mut own: Vec<f32> = (0..dimensions).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    scale(&mut own, OWN);
    for (value, own) in vector.iter_mut().zip(own) {
        *value += own;
    }
    scale(&mut vector, 1.0);
    vector
}

/// Gives a vector that length; one without any points along the first axis.
fn scale(vector: &mut [f32], length: f32) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > f32::EPSILON {
        vector.iter_mut().for_each(|value| *value *= length / norm);
    } else if let Some(first) = vector.first_mut() {
        *first = length;
    }
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= three.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(one: &str, other: &str) -> f32 {
        vector(one, 1, USUAL).iter().zip(vector(other, 1, USUAL)).map(|(one, other)| one * other).sum()
    }

    #[test]
    fn vectors_have_length_one_and_near_texts_are_near() {
        assert!((cosine("a laptop is broken", "a laptop is broken") - 1.0).abs() < 1e-5);
        let near = cosine("The laptop of the customer is broken", "the laptop of a customer was broken");
        let far = cosine("The laptop of the customer is broken", "rivers rise in april");
        assert!(near > 0.5 && far < 0.3, "{near} {far}");
        assert!((vector("...", 1, 3).iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(vector("x", 1, 1).len(), 1);
    }

    #[test]
    fn base64_is_padded() {
        let code = |text: &[u8]| {
            let mut out = Vec::new();
            encode(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([code(b""), code(b"f"), code(b"fo"), code(b"foo"), code(b"foob")], ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
