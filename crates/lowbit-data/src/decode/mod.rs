//! Encoded images to 8-bit pixels. What an image is, its content says, not its name.
//!
//! JPEG, PNG, WebP, BMP, TIFF and the first frame of a GIF. Alpha is left out, as Pillow's `convert("RGB")` leaves it out:
//! a transparent pixel has the color that the file gives it. Palettes become colors.

mod bmp;
mod exif;
mod gif;
mod jpeg;
mod kind;
mod png;
mod tiff;
mod webp;

pub(crate) use kind::EXTENSIONS;

use kind::Kind;

/// The largest image accepted: a claim beyond is not allocated for.
const MAX_PIXELS: usize = 1 << 26;

/// A decoded image, `[h, w, c]`, gray (1 channel) or RGB (3 channels).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: Vec<u8>,
}

/// Decodes an image as its pixels are stored.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    match Kind::of(bytes)? {
        Kind::Jpeg => jpeg::decode(bytes),
        Kind::Png => png::decode(bytes),
        Kind::WebP => webp::decode(bytes),
        Kind::Bmp => bmp::decode(bytes),
        Kind::Tiff => tiff::decode(bytes),
        Kind::Gif => gif::decode(bytes),
    }
}

/// Decodes an image and turns it as its EXIF orientation says, if it has one.
pub(crate) fn decode_upright(bytes: &[u8]) -> Result<Picture, String> {
    let picture = decode(bytes)?;
    Ok(match orientation(bytes) {
        Some(orientation) => exif::turned(picture, orientation),
        None => picture,
    })
}

fn orientation(bytes: &[u8]) -> Option<u16> {
    match Kind::of(bytes).ok()? {
        Kind::Jpeg => exif::orientation(jpeg::exif(bytes)?),
        Kind::Png => exif::orientation(png::exif(bytes)?),
        Kind::WebP => exif::orientation(&webp::exif(bytes)?),
        // A TIFF's own orientation is always applied; the others have none.
        Kind::Tiff | Kind::Bmp | Kind::Gif => None,
    }
}

/// What is worth saying of an image beyond its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remark {
    /// It has 16 bits per channel, of which the upper 8 are taken.
    pub(crate) deep: bool,
    /// Its EXIF orientation is not the usual one.
    pub(crate) turned: bool,
}

impl Remark {
    /// Looks into an encoded image; its pixels are not decoded.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            deep: matches!(Kind::of(bytes), Ok(Kind::Png)) && png::is_deep(bytes),
            turned: orientation(bytes).is_some_and(exif::turns),
        }
    }
}

fn check_size(height: usize, width: usize) -> Result<(), String> {
    if height == 0 || width == 0 || height.saturating_mul(width) > MAX_PIXELS {
        return Err(format!(
            "it claims to be {width}×{height}, images may have 1 to {MAX_PIXELS} pixels"
        ));
    }
    Ok(())
}

/// Pixels of `stride` bytes without the last byte of each.
fn without_alpha(pixels: &[u8], stride: usize) -> Vec<u8> {
    let colors = pixels.chunks_exact(stride);
    colors
        .flat_map(|pixel| &pixel[..stride - 1])
        .copied()
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
