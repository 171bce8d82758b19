use ::png::ColorType;

use super::*;

/// A PNG of `pixels` `[height, width, channels]`, for tests.
pub(crate) fn png_of(width: u32, height: u32, color: ColorType, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    let mut writer = encoder.write_header().expect("header");
    writer.write_image_data(pixels).expect("pixels");
    writer.finish().expect("end");
    bytes
}

/// 16×8, the left half red, the right half blue; written by Pillow 13.
pub(crate) const JPEG: &[u8] = include_bytes!("../../tests/fixtures/half_red_16x8.jpg");
/// 8×8, all 100; written by Pillow 13.
const GRAY_JPEG: &[u8] = include_bytes!("../../tests/fixtures/gray_8x8.jpg");

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
fn png_of_sixteen_bits_keeps_the_upper_eight() {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(::png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().expect("header");
    writer
        .write_image_data(&[0x12, 0xFE, 0xFF, 0])
        .expect("pixels");
    writer.finish().expect("end");
    assert_eq!(decode(&bytes).expect("decodes").pixels, [0x12, 0xFF]);
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

fn fixture(name: &str) -> Vec<u8> {
    let path = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name];
    std::fs::read(path.iter().collect::<std::path::PathBuf>()).expect("a fixture")
}

/// `pixels.txt`: name, width, height, channels and CRC-32 of the pixels that Pillow shows.
#[test]
fn images_decode_to_the_pixels_that_pillow_shows() {
    let list = String::from_utf8(fixture("images/pixels.txt")).expect("text");
    for line in list.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let picture = decode(&fixture(&format!("images/{}", fields[0])));
        let picture = picture.unwrap_or_else(|error| panic!("{}: {error}", fields[0]));
        let size = [picture.width, picture.height, picture.channels].map(|n| n.to_string());
        assert_eq!(size, fields[1..4], "{}", fields[0]);
        let checksum = format!("{:08x}", crc32fast::hash(&picture.pixels));
        assert_eq!(checksum, fields[4], "{}", fields[0]);
    }
    assert!(list.lines().count() > 40);
}

/// `upright.txt`: the same after Pillow's `exif_transpose`.
#[test]
fn images_are_turned_as_their_exif_orientation_says() {
    let list = String::from_utf8(fixture("images/upright.txt")).expect("text");
    for line in list.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let picture = decode_upright(&fixture(&format!("images/{}", fields[0])));
        let picture = picture.unwrap_or_else(|error| panic!("{}: {error}", fields[0]));
        let size = [picture.width, picture.height, picture.channels].map(|n| n.to_string());
        assert_eq!(size, fields[1..4], "{}", fields[0]);
        let checksum = format!("{:08x}", crc32fast::hash(&picture.pixels));
        assert_eq!(checksum, fields[4], "{}", fields[0]);
    }
    assert!(list.lines().count() >= 10);
}

#[test]
fn a_jpeg_without_its_last_bytes_is_refused_and_one_without_its_end_marker_is_not() {
    let whole = fixture("images/noise_420.jpg");
    let len = whole.len();
    assert_eq!(decode(&whole[..len - 2]), decode(&whole));
    for cut in [4, 12, len / 100, len / 2] {
        let error = decode(&whole[..len - cut]).expect_err("cut");
        assert!(error.contains("it may be cut off"), "{cut}: {error}");
    }
    let progressive = fixture("images/noise_420_progressive.jpg");
    let len = progressive.len();
    for cut in [2, 12, len / 100, len / 2] {
        assert!(decode(&progressive[..len - cut]).is_err(), "{cut}");
    }
    // Half of the scans and then an end marker: Pillow shows a blurred picture, we want all of it.
    let scan = (0..len)
        .rev()
        .find(|&at| progressive[at..].starts_with(&[0xFF, 0xDA]));
    let mut fewer = progressive[..scan.expect("has scans")].to_vec();
    fewer.extend([0xFF, 0xD9]);
    let error = decode(&fewer).expect_err("fewer");
    assert!(error.contains("last scans are missing"), "{error}");
}

#[test]
fn bytes_between_the_headers_of_a_jpeg_are_skipped() {
    let whole = fixture("images/noise_420.jpg");
    let second = (2..).find(|&at| whole[at..].starts_with(&[0xFF, 0xDB]));
    let (head, rest) = whole.split_at(second.expect("has tables"));
    for junk in [&b"junk"[..], &[0, 0xFF, 0, 7], &[0xFF, 0xFF, 0xFF]] {
        let littered = [head, junk, rest, b"more"].concat();
        assert_eq!(decode(&littered), decode(&whole), "{junk:?}");
    }
}

#[test]
fn kinds_of_jpeg_that_are_not_read_are_named() {
    let whole = fixture("images/noise_420.jpg");
    let frame = (2..).find(|&at| whole[at..].starts_with(&[0xFF, 0xC0]));
    let at = frame.expect("has a frame") + 1;
    for (code, name) in [
        (0xC3, "lossless"),
        (0xC9, "arithmetic-coded"),
        (0xC5, "hierarchical"),
    ] {
        let mut other = whole.clone();
        other[at] = code;
        let error = decode(&other).expect_err(name);
        assert!(error.contains(name), "{error}");
    }
    let mut deep = whole.clone();
    deep[at + 3] = 12;
    let error = decode(&deep).expect_err("12 bits");
    assert!(error.contains("12 bits per channel"), "{error}");
}

#[test]
fn tiffs_of_more_bits_or_bands_or_other_compression_are_named() {
    for (name, expected) in [
        ("gray_16_bit.tif", "16 bits per channel"),
        ("bands_13.tif", "13 bands with 16 bits each"),
        ("bands_13.tif", "EuroSAT_RGB.zip"),
        ("float.tif", "32 bits per channel"),
        ("jpeg_inside.tif", "compressed by JPEG"),
    ] {
        let error = decode(&fixture(&format!("images/{name}"))).expect_err(name);
        assert!(error.contains(expected), "{name}: {error}");
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
