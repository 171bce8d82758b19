//! TIFF of 8 bits per channel: gray, RGB and palettes, interleaved or in planes, plain, LZW, PackBits or deflate. Alpha is
//! left out; the orientation is always applied, as Pillow applies it. What has more bits or more bands, or is compressed
//! otherwise, is named.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::{MAX_PIXELS, Picture, check_size, exif, without_alpha};

/// The archive whose images have 13 bands, and the one that is meant.
const RGB_INSTEAD: &str =
    "of EuroSAT take EuroSAT_RGB.zip, not the multispectral EuroSAT_MS.zip (EuroSATallBands.zip)";

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let text = |error: tiff::TiffError| error.to_string();
    let mut limits = Limits::default();
    limits.decoding_buffer_size = 4 * MAX_PIXELS;
    let indices = palette_as_gray(bytes);
    let bytes = indices.as_deref().unwrap_or(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes))
        .map_err(text)?
        .with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(text)?;
    let (width, height) = (width as usize, height as usize);
    check_size(height, width)?;
    let color = decoder.colortype().map_err(text)?;
    let stride = stride(color)?;
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression);
    if let Some(other) = compression.map_err(text)?.and_then(unread) {
        return Err(format!(
            "it is a TIFF whose pixels are compressed by {other}; only LZW, deflate and PackBits are read: save it again"
        ));
    }
    let mut read = DecodingResult::U8(Vec::new());
    let planes = decoder
        .read_image_to_buffer(&mut read)
        .map_err(text)?
        .planes;
    let DecodingResult::U8(mut pixels) = read else {
        return Err("it is a TIFF whose channels are not unsigned bytes".into());
    };
    if pixels.len() != height * width * stride {
        return Err("its pixels are not all there".into());
    }
    if planes > 1 {
        pixels = interleaved(&pixels, height * width);
    }
    if indices.is_some() {
        let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(text)?;
        pixels = painted(&pixels, &map)?;
    } else if matches!(stride, 2 | 4) {
        pixels = without_alpha(&pixels, stride);
    }
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation);
    let picture = Picture {
        height,
        width,
        channels: pixels.len() / (height * width),
        pixels,
    };
    let orientation = orientation.map_err(text)?.unwrap_or(1);
    Ok(exif::turned(picture, orientation))
}

/// A TIFF with a palette as one of gray values, its indices: the library reads only the latter. `None` for any other.
fn palette_as_gray(bytes: &[u8]) -> Option<Vec<u8>> {
    const PHOTOMETRIC: usize = 262;
    const PALETTE: usize = 3;
    let little = match bytes.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let add = |sum: usize, &byte: &u8| sum << 8 | usize::from(byte);
        Some(match little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    };
    let directory = number(4, 4)?;
    let entries = (0..number(directory, 2)?).map(|entry| directory + 2 + 12 * entry);
    let place = entries
        .take_while(|&at| at < bytes.len())
        .find(|&at| number(at, 2) == Some(PHOTOMETRIC))?
        + 8;
    if number(place, 2)? != PALETTE {
        return None;
    }
    let mut gray = bytes.to_vec();
    let black_is_zero: u16 = 1;
    gray[place..place + 2].copy_from_slice(&match little {
        true => black_is_zero.to_le_bytes(),
        false => black_is_zero.to_be_bytes(),
    });
    Some(gray)
}

/// The name of a way to compress that is not read.
fn unread(compression: u16) -> Option<&'static str> {
    Some(match compression {
        2..=4 => "a fax code",
        6 | 7 => "JPEG",
        34_712 => "JPEG 2000",
        50_000 => "Zstandard",
        50_001 => "WebP",
        _ => return None,
    })
}

/// Pixels of channels that were stored one after the other, each `plane_len` long.
fn interleaved(planes: &[u8], plane_len: usize) -> Vec<u8> {
    let planes: Vec<&[u8]> = planes.chunks_exact(plane_len).collect();
    (0..plane_len)
        .flat_map(|at| planes.iter().map(move |plane| plane[at]))
        .collect()
}

/// Bytes of one stored pixel.
fn stride(color: ColorType) -> Result<usize, String> {
    Ok(match color {
        ColorType::Gray(8) => 1,
        ColorType::GrayA(8) => 2,
        ColorType::RGB(8) => 3,
        ColorType::RGBA(8) => 4,
        ColorType::Multiband {
            bit_depth,
            num_samples,
        } => {
            return Err(format!(
                "it is a TIFF of {num_samples} bands with {bit_depth} bits each; only 8-bit gray and RGB images are \
                 read ({RGB_INSTEAD})"
            ));
        }
        other if other.bit_depth() != 8 => {
            return Err(format!(
                "it is a TIFF of {} bits per channel; only 8-bit gray and RGB images are read: convert it first",
                other.bit_depth()
            ));
        }
        other => {
            return Err(format!(
                "it is a TIFF of the color kind {other:?}; only 8-bit gray and RGB images are read: convert it first"
            ));
        }
    })
}

/// Colors of `indices`; `map` holds all reds, then all greens, then all blues, in 16 bits.
fn painted(indices: &[u8], map: &[u16]) -> Result<Vec<u8>, String> {
    let colors = map.len() / 3;
    let mut pixels = Vec::with_capacity(3 * indices.len());
    for &index in indices {
        let index = usize::from(index);
        if index >= colors {
            return Err("a pixel is beyond its palette".into());
        }
        pixels.extend([0, 1, 2].map(|channel| (map[channel * colors + index] >> 8) as u8));
    }
    Ok(pixels)
}
