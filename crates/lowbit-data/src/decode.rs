//! JPEG and PNG to 8-bit pixels.

use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The names that image files end in.
pub(crate) const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The largest image accepted: a claim beyond is not allocated for.
const MAX_PIXELS: usize = 1 << 26;
const MAX_SIDE: usize = 1 << 15;

/// A decoded image, `[h, w, c]`, gray (1 channel) or RGB (3 channels).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: Vec<u8>,
}

/// Decodes a JPEG or a PNG, told apart by their first bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    match bytes {
        [] => Err("it is empty".into()),
        [0xFF, 0xD8, ..] => jpeg(bytes),
        [0x89, b'P', b'N', b'G', ..] => png(bytes),
        _ => Err("it is neither JPEG nor PNG".into()),
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

fn jpeg(bytes: &[u8]) -> Result<Picture, String> {
    // Strict: half a picture is an error, not a picture with a gray rest.
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|error| error.to_string())?;
    let info = decoder.info().ok_or("it has no header")?;
    let (height, width) = (usize::from(info.height), usize::from(info.width));
    check_size(height, width)?;
    let (space, channels) = match info.components {
        1 => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    if pixels.len() != height * width * channels {
        return Err("its colors are of an unknown kind".into());
    }
    Ok(Picture {
        height,
        width,
        channels,
        pixels,
    })
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
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
        pixels = pixels
            .chunks_exact(stride)
            .flat_map(|pixel| &pixel[..channels])
            .copied()
            .collect();
    }
    Ok(Picture {
        height,
        width,
        channels,
        pixels,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A PNG of `pixels` `[height, width, channels]`, for tests.
    pub(crate) fn png_of(width: u32, height: u32, color: ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        let mut writer = encoder.write_header().expect("header");
        writer.write_image_data(pixels).expect("pixels");
        writer.finish().expect("end");
        bytes
    }

    /// 16×8, the left half red, the right half blue; written by Pillow 13.
    pub(crate) const JPEG: &[u8] = include_bytes!("../tests/fixtures/half_red_16x8.jpg");
    /// 8×8, all 100; written by Pillow 13.
    const GRAY_JPEG: &[u8] = include_bytes!("../tests/fixtures/gray_8x8.jpg");

    #[test]
    fn png_colors_become_gray_or_rgb() {
        let rgb = decode(&png_of(2, 1, ColorType::Rgb, &[1, 2, 3, 4, 5, 6])).expect("decodes");
        assert_eq!((rgb.height, rgb.width, rgb.channels), (1, 2, 3));
        assert_eq!(rgb.pixels, [1, 2, 3, 4, 5, 6]);
        let rgba = decode(&png_of(1, 1, ColorType::Rgba, &[1, 2, 3, 9])).expect("decodes");
        assert_eq!(rgba.pixels, [1, 2, 3]);
        let gray = decode(&png_of(2, 1, ColorType::GrayscaleAlpha, &[7, 0, 8, 0]));
        assert_eq!(gray.expect("decodes").pixels, [7, 8]);
    }

    #[test]
    fn jpegs_keep_their_own_number_of_channels() {
        let color = decode(JPEG).expect("decodes");
        assert_eq!((color.height, color.width, color.channels), (8, 16, 3));
        let (left, right) = (&color.pixels[..3], &color.pixels[45..48]);
        assert!(
            left[0] > 200 && left[1] < 50 && right[0] < 50,
            "{left:?} {right:?}"
        );
        let gray = decode(GRAY_JPEG).expect("decodes");
        assert_eq!((gray.channels, gray.pixels.len()), (1, 64));
        assert!(gray.pixels.iter().all(|&v| v.abs_diff(100) <= 2));
    }

    #[test]
    fn jpegs_decode_as_libjpeg_decodes_them() {
        let pairs: [(&[u8], &[u8]); 2] = [
            (
                include_bytes!("../tests/fixtures/scene_420.jpg"),
                include_bytes!("../tests/fixtures/scene_420.png"),
            ),
            (
                include_bytes!("../tests/fixtures/scene_444_progressive.jpg"),
                include_bytes!("../tests/fixtures/scene_444_progressive.png"),
            ),
        ];
        for (jpeg, png) in pairs {
            let (ours, theirs) = (decode(jpeg).expect("ours"), decode(png).expect("theirs"));
            assert_eq!((ours.height, ours.width), (48, 40));
            let pixels = ours.pixels.iter().zip(&theirs.pixels);
            let apart: Vec<u8> = pixels.map(|(a, b)| a.abs_diff(*b)).collect();
            // Chroma's enlargement and conversion round differently, by 3 levels in one value of these two images.
            assert!(apart.iter().all(|&levels| levels <= 3));
            let far = apart.iter().filter(|&&levels| levels > 2).count();
            assert!(far * 1000 <= apart.len(), "{far} of {}", apart.len());
        }
    }

    #[test]
    fn a_truncated_image_is_an_error() {
        let whole = png_of(8, 8, ColorType::Rgb, &[50; 192]);
        for cut in [0, 1, 5, 20, whole.len() / 2, whole.len() - 20] {
            assert!(decode(&whole[..cut]).is_err(), "png cut at {cut}");
        }
        for cut in [2, 10, JPEG.len() / 2, JPEG.len() - 20] {
            assert!(decode(&JPEG[..cut]).is_err(), "jpeg cut at {cut}");
        }
    }

    #[test]
    fn a_claim_of_a_huge_image_is_refused_before_allocating() {
        let mut whole = png_of(1, 1, ColorType::Rgb, &[1, 2, 3]);
        whole[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let crc = crc32fast::hash(&whole[12..29]);
        whole[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&whole).expect_err("too large");
        assert!(error.contains("65536×65536"), "{error}");
    }
}
