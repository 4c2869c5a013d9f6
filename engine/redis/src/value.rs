//! An answer as it lies in Redis: a mark, a version, its facts, a digest, its body.
//!
//! The digest covers the key too. So what somebody else wrote, what was cut short and what lies under
//! another key's name is no answer.

use bytes::Bytes;
use wordmill_core::commons::Answer;
use wordmill_core::json::Key;
use wordmill_core::record::Api;

/// Longer answers are not kept, and not read.
pub const MOST: usize = 256 << 10;
const MARK: &[u8] = b"WM\x01";
/// Mark, API, bytes sent, flags, attempts, microseconds, digest.
const HEAD: usize = MARK.len() + 1 + 4 + 4 + 4 + 8 + 16;
const FACTS: usize = HEAD - 16;

const APIS: [Api; 4] = [Api::Chat, Api::Completion, Api::Embedding, Api::Other];

fn digest(key: &Key, facts: &[u8], body: &[u8]) -> [u8; 16] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(key);
    context.update(facts);
    context.update(body);
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    short
}

/// None where it is too long.
pub fn encode(key: &Key, answer: &Answer) -> Option<Vec<u8>> {
    let api = APIS.iter().position(|api| *api == answer.api)?;
    if answer.body.len() + HEAD > MOST {
        return None;
    }
    let mut value = Vec::with_capacity(HEAD + answer.body.len());
    value.extend_from_slice(MARK);
    value.push(u8::try_from(api).ok()?);
    value.extend_from_slice(&answer.sent.to_le_bytes());
    value.extend_from_slice(&answer.flags.to_le_bytes());
    value.extend_from_slice(&answer.attempts.to_le_bytes());
    value.extend_from_slice(&answer.micros.to_le_bytes());
    let digest = digest(key, &value, &answer.body);
    value.extend_from_slice(&digest);
    value.extend_from_slice(&answer.body);
    Some(value)
}

/// None for what `encode` did not write, of this version and for this key.
pub fn decode(key: &Key, value: &[u8]) -> Option<Answer> {
    if value.len() > MOST {
        return None;
    }
    let (head, body) = value.split_at_checked(HEAD)?;
    let (facts, seal) = head.split_at(FACTS);
    if !facts.starts_with(MARK) || digest(key, facts, body) != seal {
        return None;
    }
    let mut rest = &facts[MARK.len()..];
    let api = *APIS.get(usize::from(take::<1>(&mut rest)?[0]))?;
    Some(Answer {
        api,
        sent: u32::from_le_bytes(take(&mut rest)?),
        flags: u32::from_le_bytes(take(&mut rest)?),
        attempts: u32::from_le_bytes(take(&mut rest)?),
        micros: u64::from_le_bytes(take(&mut rest)?),
        body: Bytes::copy_from_slice(body),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static [u8]) -> Answer {
        Answer { api: Api::Embedding, sent: 7, flags: 8, attempts: 2, micros: 99, body: Bytes::from_static(body) }
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_else() {
        let (key, other) = ([1; 16], [2; 16]);
        let value = encode(&key, &answer(b"{}")).unwrap();
        assert_eq!(decode(&key, &value), Some(answer(b"{}")));
        assert_eq!(decode(&other, &value), None);
        for at in 0..value.len() {
            let mut poisoned = value.clone();
            poisoned[at] ^= 1;
            assert_eq!(decode(&key, &poisoned), None, "byte {at}");
            assert_eq!(decode(&key, &value[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn what_is_too_long_is_neither_kept_nor_read() {
        let key = [1; 16];
        let long = Answer { body: vec![b' '; MOST].into(), ..answer(b"") };
        assert_eq!(encode(&key, &long), None);
        let longest = Answer { body: vec![b' '; MOST - HEAD].into(), ..answer(b"") };
        assert_eq!(encode(&key, &longest).map(|value| value.len()), Some(MOST));
        assert_eq!(decode(&key, &vec![0; MOST + 1]), None);
    }
}
