//! Small images that a test makes itself.

use std::fs::File;
use std::path::Path;

/// A generator of numbers that look random (Marsaglia's xorshift).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Writes an 8×8 RGB image.
pub fn png(path: &Path, pixels: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
}

/// A folder per class with `per_class` images each, all different; `learnable` ones have a color of their class.
pub fn photos(folder: &Path, classes: &[&str], per_class: usize, seed: u64, learnable: bool) {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for (class, name) in classes.iter().enumerate() {
        for index in 0..per_class {
            let pixels: Vec<u8> = (0..8 * 8 * 3)
                .map(|at| {
                    let noise = (numbers.next() >> 32) as u8;
                    if learnable && at % 3 == class % 3 {
                        200 + noise / 8 - 60 * (class / 3) as u8
                    } else if learnable {
                        noise / 4
                    } else {
                        noise
                    }
                })
                .collect();
            png(&folder.join(name).join(format!("{index}.png")), &pixels);
        }
    }
}
