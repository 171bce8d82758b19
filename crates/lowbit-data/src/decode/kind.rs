//! What a file is, by its first bytes.

/// The names that image files end in; what is in them, [`Kind::of`] says.
pub(crate) const EXTENSIONS: [&str; 11] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "gif",
];

/// A kind of image that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
    Gif,
}

impl Kind {
    /// The kind of `bytes`, or what they are instead.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, String> {
        Ok(match bytes {
            [] => return Err("it is empty".into()),
            [0xFF, 0xD8, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::WebP,
            [b'B', b'M', ..] => Self::Bmp,
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::Tiff,
            [b'G', b'I', b'F', b'8', ..] => Self::Gif,
            _ => {
                let what = foreign(bytes).map_or("of an unknown kind".into(), |name| {
                    format!("{name}, which is not read")
                });
                return Err(format!(
                    "it is {what}; JPEG, PNG, WebP, BMP, TIFF and GIF images are"
                ));
            }
        })
    }
}

/// The name of what lies about where images are expected.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let boxed = bytes.get(4..12).unwrap_or_default();
    let text = bytes.trim_ascii_start();
    Some(match bytes {
        _ if boxed == b"ftypavif" || boxed == b"ftypavis" => "an AVIF image",
        _ if boxed.starts_with(b"ftyp") => "a HEIC image or a film",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => "a JPEG 2000 image",
        [0, 0, 0, 12, b'J', b'X', b'L', ..] | [0xFF, 0x0A, ..] => "a JPEG XL image",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [0, 0, 1, 0, ..] => "an icon",
        [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => "a PNM image",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array",
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        _ if text.starts_with(b"version https://git-lfs") => {
            "a Git LFS pointer (run `git lfs pull` where it comes from)"
        }
        _ if text.starts_with(b"<svg") || text.starts_with(b"<?xml") => "an SVG or XML file",
        _ if text.starts_with(b"<!DOCTYPE") || text.starts_with(b"<html") => "a web page",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_we_read_is_named() {
        let avif = Kind::of(b"\0\0\0\x1Cftypavif\0\0").expect_err("avif");
        assert!(
            avif.starts_with("it is an AVIF image, which is not read"),
            "{avif}"
        );
        let pointer = Kind::of(b"version https://git-lfs.github.com/spec/v1\n").expect_err("lfs");
        assert!(pointer.contains("Git LFS pointer"), "{pointer}");
        let unknown = Kind::of(b"hello").expect_err("text");
        assert!(
            unknown.contains("of an unknown kind; JPEG, PNG, WebP"),
            "{unknown}"
        );
        assert_eq!(Kind::of(b""), Err("it is empty".into()));
    }
}
