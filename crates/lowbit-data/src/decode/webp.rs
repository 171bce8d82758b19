//! WebP, lossy and lossless; of an animation the first frame. Alpha is left out.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{MAX_PIXELS, Picture, check_size, without_alpha};

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let text = |error: image_webp::DecodingError| error.to_string();
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(text)?;
    decoder.set_memory_limit(8 * MAX_PIXELS);
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(height, width)?;
    let stride = if decoder.has_alpha() { 4 } else { 3 };
    let mut pixels = vec![0; height * width * stride];
    decoder.read_image(&mut pixels).map_err(text)?;
    if stride == 4 {
        pixels = without_alpha(&pixels, stride);
    }
    Ok(Picture {
        height,
        width,
        channels: 3,
        pixels,
    })
}

/// The orientation data of a WebP image.
pub(super) fn exif(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).ok()?;
    decoder.exif_metadata().ok()?
}
