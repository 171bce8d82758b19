//! A picture of a few images of each class.

use crate::decode::Picture;
use crate::resize::resize;
use crate::{DataError, Dataset};

/// Pixels between images.
const GAP: usize = 2;
/// Smaller images are enlarged to about this.
const MIN_TILE: usize = 64;
const MAX_TILE: usize = 256;
const MAX_PER_CLASS: usize = 100;

/// A PNG with a row for each class, in the order of the class names, of its first `per_class` training images.
///
/// # Errors
/// [`DataError::Encode`] when there is nothing to show; others when an image cannot be read.
pub fn contact_sheet(data: &Dataset, per_class: usize) -> Result<Vec<u8>, DataError> {
    let failed = |reason: String| DataError::Encode { reason };
    let columns = per_class.min(MAX_PER_CLASS);
    let rows = data.class_names.len();
    if columns == 0 || rows == 0 {
        return Err(failed("no images were asked for".into()));
    }
    let (tile_h, tile_w) = tile_size(data.height, data.width);
    let (height, width) = (rows * (tile_h + GAP) + GAP, columns * (tile_w + GAP) + GAP);
    let mut sheet = vec![255u8; height * width * 3];
    let mut shown = vec![0; rows];
    for (index, &label) in data.train.labels().iter().enumerate() {
        let row = label as usize;
        if row >= rows || shown[row] == columns {
            continue;
        }
        let tile = resize(
            &Picture {
                height: data.height,
                width: data.width,
                channels: data.channels,
                pixels: data.train.image(index)?.into_owned(),
            },
            tile_h,
            tile_w,
        );
        let left = shown[row] * (tile_w + GAP) + GAP;
        for y in 0..tile_h {
            let at = ((row * (tile_h + GAP) + GAP + y) * width + left) * 3;
            let pixels = tile.pixels[y * tile_w * data.channels..].chunks_exact(data.channels);
            for (out, pixel) in sheet[at..].chunks_exact_mut(3).zip(pixels).take(tile_w) {
                out.copy_from_slice(&std::array::from_fn::<u8, 3, _>(|c| pixel[c % pixel.len()]));
            }
        }
        shown[row] += 1;
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(&sheet)?;
            writer.finish()
        })
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

/// A tile's size: the image's, enlarged by a whole number when small, reduced when large.
fn tile_size(height: usize, width: usize) -> (usize, usize) {
    let longer = height.max(width).max(1);
    if longer > MAX_TILE {
        let reduce = |side: usize| (side * MAX_TILE / longer).max(1);
        return (reduce(height), reduce(width));
    }
    let factor = (MIN_TILE / longer).max(1);
    (height * factor, width * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, decode::decode};

    fn two_classes(channels: usize) -> Dataset {
        let len = 64 * 64 * channels;
        let pixels = [10u8, 200, 10].iter().flat_map(|&v| vec![v; len]).collect();
        Dataset {
            name: "two".into(),
            source: "test".into(),
            synthetic: true,
            class_names: vec!["dark".into(), "light".into()],
            height: 64,
            width: 64,
            channels,
            train: Split::new(len, pixels, vec![0, 1, 0]).expect("fits"),
            validation: Split::default(),
            test: Split::default(),
            split: "as shipped".into(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn each_class_has_its_row_in_gray_as_in_color() {
        for channels in [1, 3] {
            let bytes = contact_sheet(&two_classes(channels), 2).expect("encodes");
            let sheet = decode(&bytes).expect("decodes");
            assert_eq!((sheet.height, sheet.width), (134, 134));
            let at = |y: usize, x: usize| sheet.pixels[(y * sheet.width + x) * 3];
            assert_eq!(
                [at(10, 10), at(10, 80), at(80, 10), at(80, 80)],
                [10, 10, 200, 255]
            );
        }
    }

    #[test]
    fn small_images_are_enlarged_and_large_ones_reduced() {
        assert_eq!(tile_size(28, 28), (56, 56));
        assert_eq!(tile_size(64, 32), (64, 32));
        assert_eq!(tile_size(1024, 512), (256, 128));
    }

    #[test]
    fn asking_for_nothing_is_an_error() {
        assert!(contact_sheet(&two_classes(1), 0).is_err());
    }
}
