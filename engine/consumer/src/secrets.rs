//! Stored secrets, opened: `wordmill.secrets` seals them.
//!
//! Layout: version 1 (1 byte), mark of the key (4), nonce (12), AES-256-GCM with its tag; bound to the
//! place where it is stored. Both languages read the vectors of `tests/vectors/secrets.json`.

use base64::prelude::{Engine as _, BASE64_STANDARD};
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM};
use ring::digest::{digest, SHA256};
use ring::hkdf::{KeyType, Salt, HKDF_SHA256};
use std::path::Path;

const VERSION: u8 = 1;
const MARK: usize = 4;
const NONCE: usize = 12;

/// What opens stored secrets.
pub struct Key {
    sealing: [u8; 32],
    /// Where it is, in words.
    place: String,
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

impl Key {
    /// The setting's, or that of `secret.key` in the data folder. The error is a sentence.
    pub fn find(setting: &str, home: &Path) -> Result<Self, String> {
        if !setting.is_empty() {
            return Key::of(setting.as_bytes(), "the setting secret_key");
        }
        let path = home.join("secret.key");
        let shown = path.display();
        let text = read(&path)?;
        let key = BASE64_STANDARD.decode(text.trim()).ok().filter(|key| key.len() == 32);
        let key = key.ok_or_else(|| format!("{shown} is no key of Wordmill (44 characters of base64): put the right one back."))?;
        Key::of(&key, &shown.to_string())
    }

    fn of(source: &[u8], place: &str) -> Result<Self, String> {
        let mut sealing = [0; 32];
        let purpose = [&b"seal"[..]];
        Salt::new(HKDF_SHA256, b"wordmill")
            .extract(source)
            .expand(&purpose, Length)
            .and_then(|key| key.fill(&mut sealing))
            .map_err(|_| "A key cannot be made of the secret key.".to_string())?;
        Ok(Key { sealing, place: place.into() })
    }

    /// What was sealed for this place. The error is a sentence.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<String, String> {
        let marked = digest(&SHA256, &[b"mark", &self.sealing[..]].concat());
        let head = [&[VERSION], &marked.as_ref()[..MARK]].concat();
        let damaged = || format!("A stored secret ({place}) is damaged or was moved there. Enter it again.");
        if sealed.get(..1 + MARK) != Some(&head[..]) {
            return Err(format!(
                "A stored secret ({place}) was sealed with another key than {}: put that one back, or enter the secret again.",
                self.place
            ));
        }
        let nonce = sealed.get(1 + MARK..1 + MARK + NONCE).and_then(|nonce| Nonce::try_assume_unique_for_key(nonce).ok());
        let key = UnboundKey::new(&AES_256_GCM, &self.sealing).map(LessSafeKey::new).map_err(|_| damaged())?;
        let bound = Aad::from([&head[..], place.as_bytes()].concat());
        let mut text = sealed.get(1 + MARK + NONCE..).unwrap_or_default().to_vec();
        let opened = key.open_in_place(nonce.ok_or_else(damaged)?, bound, &mut text).map_err(|_| damaged())?;
        String::from_utf8(opened.to_vec()).map_err(|_| damaged())
    }
}

fn read(path: &Path) -> Result<String, String> {
    let words = |error: std::io::Error| format!("{} opens stored keys of providers and cannot be read: {error}.", path.display());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if std::fs::metadata(path).map_err(words)?.permissions().mode() & 0o077 != 0 {
            let shown = path.display();
            return Err(format!("{shown} opens every stored secret and may be read by others: chmod 600 {shown}"));
        }
    }
    std::fs::read_to_string(path).map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vector {
        secret_key: Option<String>,
        key_file: Option<String>,
        place: String,
        sealed: String,
        text: Option<String>,
        error: Option<String>,
    }

    #[test]
    fn what_python_sealed_is_opened_and_nothing_else() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/secrets.json");
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(vectors.len() >= 6);
        let folder = std::env::temp_dir().join(format!("wordmill-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for vector in vectors {
            if let Some(text) = &vector.key_file {
                write(&folder, text, 0o600);
            }
            let key = Key::find(vector.secret_key.as_deref().unwrap_or_default(), &folder).unwrap();
            let opened = key.open(&BASE64_STANDARD.decode(&vector.sealed).unwrap(), &vector.place);
            match (&vector.text, &vector.error) {
                (Some(text), None) => assert_eq!(opened.as_ref(), Ok(text)),
                (None, Some(words)) => assert!(opened.as_ref().unwrap_err().contains(words), "{opened:?}"),
                _ => panic!("a vector has a text or an error"),
            }
        }
        write(&folder, &"A".repeat(43), 0o600);
        assert!(Key::find("", &folder).err().unwrap().contains("is no key of Wordmill"));
        write(&folder, "x", 0o640);
        assert!(Key::find("", &folder).err().unwrap().contains("may be read by others"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Key::find("", &folder).err().unwrap().contains("cannot be read"));
    }

    fn write(folder: &Path, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("secret.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}
