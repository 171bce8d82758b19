//! BMP of 1 to 32 bits per pixel. Alpha is left out.

use zune_bmp::BmpDecoder;
use zune_bmp::zune_core::bytestream::ZCursor;
use zune_bmp::zune_core::colorspace::ColorSpace;

use super::{Picture, check_size, without_alpha};

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let text = |error: zune_bmp::BmpDecoderErrors| format!("{error:?}");
    let mut decoder = BmpDecoder::new(ZCursor::new(bytes));
    decoder.decode_headers().map_err(text)?;
    let (width, height) = decoder.dimensions().ok_or("it has no header")?;
    check_size(height, width)?;
    let (stride, mut channels) = match decoder.colorspace() {
        Some(ColorSpace::Luma) => (1, 1),
        Some(ColorSpace::RGB) => (3, 3),
        Some(ColorSpace::RGBA) => (4, 3),
        _ => return Err("its colors are of an unknown kind".into()),
    };
    let mut pixels = decoder.decode().map_err(text)?;
    if pixels.len() != height * width * stride {
        return Err("its pixels are not all there".into());
    }
    if stride != channels {
        pixels = without_alpha(&pixels, stride);
    }
    // Up to 8 bits per pixel are indices; a palette of grays makes a gray image.
    let indexed = bytes
        .get(28..30)
        .is_some_and(|bits| bits[0] <= 8 && bits[1] == 0);
    if indexed && channels == 3 && pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]) {
        channels = 1;
        pixels = pixels.into_iter().step_by(3).collect();
    }
    Ok(Picture {
        height,
        width,
        channels,
        pixels,
    })
}
