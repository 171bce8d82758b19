//! PNG: any depth as 8 bits, the upper ones of 16; alpha is left out.

use png::{ColorType, Transformations};

use super::{Picture, check_size, without_alpha};

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.ignore_checksums(false);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (width, height) = reader.info().size();
    let (height, width) = (height as usize, width as usize);
    check_size(height, width)?;
    let len = reader.output_buffer_size().ok_or("it is too large")?;
    let mut pixels = vec![0; len];
    let frame = reader
        .next_frame(&mut pixels)
        .map_err(|error| error.to_string())?;
    pixels.truncate(frame.buffer_size());
    let (stride, channels) = match frame.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err("its palette is missing".into()),
    };
    if (frame.height as usize, frame.width as usize) != (height, width)
        || pixels.len() != height * width * stride
    {
        return Err("its first frame is not of the image's size".into());
    }
    if stride != channels {
        pixels = without_alpha(&pixels, stride);
    }
    Ok(Picture {
        height,
        width,
        channels,
        pixels,
    })
}

/// Whether a PNG has 16 bits per channel, as its header says.
pub(super) fn is_deep(bytes: &[u8]) -> bool {
    const BIT_DEPTH: usize = 24;
    bytes.get(BIT_DEPTH) == Some(&16)
}

/// The orientation data of a PNG: those of its `eXIf` chunk.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (body, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        if kind == b"eXIf" {
            return Some(body);
        }
        // Over the checksum.
        rest = after.get(4..)?;
    }
}
