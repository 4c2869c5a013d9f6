//! Where files lie: the data folder, or a bucket. The same places as `wordmill.storage` uses.

use crate::http::{words, Connector};
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Place;
use object_store::{ObjectStore, ObjectStoreExt};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub enum Storage {
    Folder(PathBuf),
    Bucket(Arc<dyn ObjectStore>, String),
}

/// What a storage says.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such file, or not as much of it: asking again does not help.
    Gone(String),
    /// It may be better in a moment.
    Trouble(String),
}

impl Fault {
    pub fn words(&self) -> &str {
        match self {
            Fault::Gone(words) | Fault::Trouble(words) => words,
        }
    }
}

impl Storage {
    /// `url`: s3://bucket/path, with the endpoint and the credentials in AWS's variables; empty: the
    /// folder. The error is a sentence.
    pub fn open(url: &str, home: &Path) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("s3://") else {
            return Ok(Storage::Folder(home.to_path_buf()));
        };
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_http_connector(Connector);
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"] {
            if let Some(endpoint) = std::env::var(name).ok().filter(|endpoint| !endpoint.is_empty()) {
                builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
                break;
            }
        }
        let store = builder.build().map_err(|error| format!("The storage s3://{bucket} cannot be used: {}.", words(&error)))?;
        Ok(Storage::Bucket(Arc::new(store), path.trim_matches('/').to_string()))
    }

    /// A part of a file.
    pub async fn read(&self, place: &str, offset: u64, size: u64) -> Result<Vec<u8>, Fault> {
        match self {
            Storage::Folder(root) => {
                let path = root.join(place);
                blocking(move || read(&path, offset, size)).await
            }
            Storage::Bucket(store, prefix) => {
                let whole = below(prefix, place);
                let data = store.get_range(&whole, offset..offset + size).await.map_err(|error| said(&whole, &error))?;
                if data.len() as u64 != size {
                    return Err(short(whole.as_ref(), offset, size, data.len() as u64));
                }
                Ok(data.to_vec())
            }
        }
    }

    /// A file, whole or not at all, and durable.
    pub async fn write(&self, place: &str, data: Bytes) -> Result<(), Fault> {
        match self {
            Storage::Folder(root) => {
                let path = root.join(place);
                blocking(move || write(&path, &data)).await
            }
            Storage::Bucket(store, prefix) => {
                let whole = below(prefix, place);
                store.put(&whole, data.into()).await.map_err(|error| said(&whole, &error)).map(drop)
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Fault::Trouble(format!("a file could not be handled: {error}"))))
}

fn below(prefix: &str, place: &str) -> Place {
    Place::from(if prefix.is_empty() { place.to_string() } else { format!("{prefix}/{place}") })
}

fn short(place: &str, offset: u64, size: u64, found: u64) -> Fault {
    Fault::Gone(format!("{place} ends before its byte {}: {found} of {size} bytes are there", offset + size))
}

fn said(place: &Place, error: &object_store::Error) -> Fault {
    let text = format!("{place}: {}", words(error));
    match error {
        object_store::Error::NotFound { .. } => Fault::Gone(text),
        _ => Fault::Trouble(text),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Fault {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound => Fault::Gone(text),
        _ => Fault::Trouble(text),
    }
}

fn read(path: &Path, offset: u64, size: u64) -> Result<Vec<u8>, Fault> {
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut opened = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.take(size).read_to_end(&mut data)
    };
    let found = opened().map_err(|error| failed(path, &error))?;
    if found as u64 != size {
        return Err(short(&path.display().to_string(), offset, size, found as u64));
    }
    Ok(data)
}

/// Beside its place under a hidden name, forced to the disk and renamed, as `WholeFile` does.
fn write(path: &Path, data: &[u8]) -> Result<(), Fault> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Fault::Gone(format!("{} is no place for a file", path.display())));
    };
    let part = folder.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = File::create(&part)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        File::open(folder)?.sync_all()
    });
    written.map_err(|error| {
        // What is left of it is in nobody's way.
        let _ = fs::remove_file(&part);
        Fault::Trouble(failed(path, &error).words().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_of_the_folder_is_whole_and_read_in_parts() {
        let root = std::env::temp_dir().join(format!("wordmill-storage-{}", std::process::id()));
        let storage = Storage::open("", &root).unwrap();
        storage.write("a/b/c.jsonl", Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(storage.read("a/b/c.jsonl", 2, 3).await.unwrap(), b"234");
        let names: Vec<_> = fs::read_dir(root.join("a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["c.jsonl"]);
        let beyond = storage.read("a/b/c.jsonl", 8, 5).await.unwrap_err();
        assert!(matches!(&beyond, Fault::Gone(words) if words.ends_with("ends before its byte 13: 2 of 5 bytes are there")), "{beyond:?}");
        assert!(matches!(storage.read("a/none", 0, 1).await, Err(Fault::Gone(_))));
        fs::write(root.join("a/file"), b"").unwrap();
        assert!(matches!(storage.write("a/file/x", Bytes::new()).await, Err(Fault::Trouble(_))));
        fs::remove_dir_all(root).unwrap();
    }
}
