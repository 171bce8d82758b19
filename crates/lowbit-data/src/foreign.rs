//! What a file is that is none of ours, told by its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// As many first bytes as telling takes.
pub(crate) const HEAD_BYTES: usize = 512;

/// What the file at `path` is, with what to do about it, where its first bytes tell: "a Git LFS pointer, not the file
/// itself; run `git lfs pull`". `None` for files that cannot be read and for those of an unknown kind.
#[must_use]
pub fn what_is(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).ok()?;
    describe(&head).map(str::to_owned)
}

/// What a file that begins with `head` is.
pub(crate) fn describe(head: &[u8]) -> Option<&'static str> {
    if head.is_empty() {
        return Some("an empty file; fetch it again");
    }
    by_magic(head).or_else(|| by_text(head))
}

/// The first bytes of binary files that get mistaken for data sets, models or images.
fn by_magic(head: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 21] = [
        (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it first"),
        (b"Rar!", "a RAR archive; unpack it first"),
        (b"\xFD7zXZ\0", "an xz archive; unpack it first"),
        (b"BZh", "a bzip2 archive; unpack it first"),
        (b"\x28\xB5\x2F\xFD", "a Zstandard archive; unpack it first"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1F\x8B", "a gzip file"),
        (b"%PDF", "a PDF document"),
        (
            b"\x89HDF",
            "an HDF5 file; export its images into one folder per class",
        ),
        (
            b"\x93NUMPY",
            "a NumPy array; export its images into one folder per class",
        ),
        (
            b"MATLAB 5.0",
            "a MATLAB file; export its images into one folder per class",
        ),
        (b"SQLite format 3", "an SQLite database"),
        (b"ARROW1", "an Arrow file; save it as .parquet"),
        (b"PAR1", "a parquet file"),
        (b"GGUF", "a GGUF model"),
        (b"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46", "a PyTorch checkpoint"),
        (b"\x7FELF", "a program"),
        (b"\xFF\xD8\xFF", "a single JPEG image, not a set of them"),
        (b"\x89PNG", "a single PNG image, not a set of them"),
        (b"GIF8", "a single GIF image, not a set of them"),
        (
            b"RIFF",
            "a RIFF file (WebP, WAV or AVI), not a set of images",
        ),
    ];
    let known = KINDS.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some((_, kind)) = known {
        return Some(kind);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    match head {
        // The length of a JSON header, then the header.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Some("a safetensors file: a model, not images"),
        [0x80, 2..=5, ..] => Some("a Python pickle; name the folder if it is one of CIFAR's"),
        // ModelProto: field 1 (a small version), then field 2 (who made it) or 7 (the graph) or 8 (operator sets).
        [0x08, 1..=20, 0x12 | 0x3A | 0x42, ..] => Some("an ONNX model, not images"),
        _ => None,
    }
}

/// Text files that get mistaken for data.
fn by_text(head: &[u8]) -> Option<&'static str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character that the end of `head` cuts.
        Err(error) if error.valid_up_to() + 4 > head.len() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.contains('\0') {
        return None;
    }
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower = start.to_ascii_lowercase();
    Some(match lower.as_str() {
        text if text.starts_with("version https://git-lfs") => {
            "a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned, or download the file"
        }
        text if text.starts_with("<!doctype html") || text.starts_with("<html") => {
            "an HTML page, not the file itself; the download was answered with a page: fetch it again with a browser"
        }
        text if text.starts_with("<?xml") || text.starts_with("<error") => {
            "an XML document, perhaps a server's refusal; fetch the file again"
        }
        text if text.starts_with('{') || text.starts_with('[') => "a JSON or TOML text",
        text => match text.lines().next() {
            Some(line) if line.matches(',').count() >= 2 => {
                "a table of comma-separated values; put the images of each class into a folder of its name"
            }
            _ => "a text",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_mistake_for_data_is_named() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, word) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:1"[..],
                "Git LFS",
            ),
            (b"\n<!DOCTYPE HTML><html>", "HTML"),
            (b"%PDF-1.7", "PDF"),
            (b"7z\xBC\xAF\x27\x1C\0\x04", "7z"),
            (b"Rar!\x1A\x07\x01\0", "RAR"),
            (b"\x40\0\0\0\0\0\0\0{\"__meta", "safetensors"),
            (b"\x08\x07\x12\x07pytorch", "ONNX"),
            (b"\x80\x04\x95\0", "pickle"),
            (b"label,pixel0,pixel1\n1,2,3\n", "comma-separated"),
            (b"{\"a\": 1}", "JSON"),
            (b"hello", "a text"),
            (b"", "empty"),
            (&tar, "tar"),
        ] {
            let found = describe(head).unwrap_or("nothing");
            assert!(found.contains(word), "{word}: {found}");
        }
        assert_eq!(describe(b"\x01\x02\0\xFF"), None);
    }

    #[test]
    fn a_character_that_the_end_cuts_does_not_hide_the_text() {
        assert_eq!(
            describe("hello ä".as_bytes().split_last().expect("bytes").1),
            Some("a text")
        );
    }
}
