//! EXIF orientation: how a camera was held, and pixels turned accordingly.
//!
//! CIPA DC-008, "Exchangeable image file format": tag 0x0112 of the first directory, 1 to 8.

use super::Picture;

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// The orientation in EXIF data, with or without the `Exif` header that JPEG puts before them.
pub(super) fn orientation(exif: &[u8]) -> Option<u16> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, len: usize| -> Option<u32> {
        let bytes = tiff.get(at..at.checked_add(len)?)?;
        let add = |sum: u32, &byte: &u8| sum << 8 | u32::from(byte);
        Some(match little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    };
    let directory = number(4, 4)? as usize;
    let count = number(directory, 2)? as usize;
    for entry in 0..count {
        let at = directory.checked_add(2 + 12 * entry)?;
        let (tag, kind) = (number(at, 2)?, number(at + 2, 2)?);
        if tag == u32::from(ORIENTATION) && kind == u32::from(SHORT) {
            return number(at + 8, 2).map(|value| value as u16);
        }
    }
    None
}

/// Whether an orientation says anything but "as it is stored".
pub(super) fn turns(orientation: u16) -> bool {
    (2..=8).contains(&orientation)
}

/// `picture` as it looks upright. 2, 4, 5 and 7 are mirrored; 3, 6 and 8 are turned by 180°, 90° and 270° clockwise.
pub(super) fn turned(picture: Picture, orientation: u16) -> Picture {
    if !turns(orientation) {
        return picture;
    }
    let (h, w, channels) = (picture.height, picture.width, picture.channels);
    let (height, width) = if orientation < 5 { (h, w) } else { (w, h) };
    let mut pixels = Vec::with_capacity(picture.pixels.len());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (row, column) = match orientation {
            2 => (y, w - 1 - x),
            3 => (h - 1 - y, w - 1 - x),
            4 => (h - 1 - y, x),
            5 => (x, y),
            6 => (h - 1 - x, y),
            7 => (h - 1 - x, w - 1 - y),
            _ => (x, w - 1 - y),
        };
        let at = (row * w + column) * channels;
        pixels.extend_from_slice(&picture.pixels[at..at + channels]);
    }
    Picture {
        height,
        width,
        channels,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orientation_is_read_in_both_byte_orders() {
        let little = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0F\x01\x02\0\x01\0\0\0a\0\0\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        assert_eq!(orientation(little), Some(6));
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!(orientation(big), Some(8));
        for len in 0..big.len() - 2 {
            assert_eq!(orientation(&big[..len]), None, "{len}");
        }
        assert_eq!(orientation(b"II*\0\xFF\xFF\xFF\xFF"), None);
    }

    #[test]
    fn each_orientation_turns_an_f_upright() {
        // An F of 2 by 3: 1 2 / 3 4 / 5 6, as each orientation stores it.
        let stored: [(u16, usize, [u8; 6]); 8] = [
            (1, 2, [1, 2, 3, 4, 5, 6]),
            (2, 2, [2, 1, 4, 3, 6, 5]),
            (3, 2, [6, 5, 4, 3, 2, 1]),
            (4, 2, [5, 6, 3, 4, 1, 2]),
            (5, 3, [1, 3, 5, 2, 4, 6]),
            (6, 3, [2, 4, 6, 1, 3, 5]),
            (7, 3, [6, 4, 2, 5, 3, 1]),
            (8, 3, [5, 3, 1, 6, 4, 2]),
        ];
        for (orientation, width, pixels) in stored {
            let picture = Picture {
                height: 6 / width,
                width,
                channels: 1,
                pixels: pixels.to_vec(),
            };
            let upright = turned(picture, orientation);
            assert_eq!(upright.pixels, [1, 2, 3, 4, 5, 6], "{orientation}");
            assert_eq!((upright.height, upright.width), (3, 2), "{orientation}");
        }
    }
}
