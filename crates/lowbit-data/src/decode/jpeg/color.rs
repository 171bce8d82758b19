//! From planes to gray or RGB pixels.
//!
//! YCbCr as JFIF has it, in libjpeg's fixed point of 16 bits; CMYK as Pillow takes it: inverted, as Adobe writes it.

use super::Plane;
use super::headers::{Frame, Tables};
use super::upsample::Upsampler;

/// Pixels converted at a time.
const RUN: usize = 32;

/// What the planes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Gray,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

impl Colors {
    /// By the markers, or else by the channels' names, as libjpeg guesses.
    pub(super) fn of(frame: &Frame, tables: &Tables) -> Self {
        match (frame.components.len(), tables.adobe) {
            (1, _) => Self::Gray,
            (3, _) if tables.jfif => Self::YCbCr,
            (3, Some(0)) => Self::Rgb,
            (3, Some(_)) => Self::YCbCr,
            (3, None) if frame.ids() == *b"RGB" => Self::Rgb,
            (3, None) => Self::YCbCr,
            (_, None | Some(0)) => Self::Cmyk,
            _ => Self::Ycck,
        }
    }

    pub(super) fn channels(self) -> usize {
        if self == Self::Gray { 1 } else { 3 }
    }
}

/// The picture's pixels, `[h, w, c]`.
pub(super) fn pixels(frame: &Frame, planes: &[Plane], colors: Colors) -> Vec<u8> {
    let (width, height) = (frame.width, frame.height);
    let mut pixels = vec![0; width * height * colors.channels()];
    let members = frame.components.iter().zip(planes);
    let mut channels: Vec<Upsampler> = members
        .map(|(component, plane)| Upsampler::new(frame, component, plane))
        .collect();
    for (y, out) in pixels
        .chunks_exact_mut(width * colors.channels())
        .enumerate()
    {
        match (colors, &mut channels[..]) {
            (Colors::Gray, [gray, ..]) => out.copy_from_slice(&gray.row(y)[..width]),
            (Colors::Rgb, [r, g, b]) => {
                let rows = [r.row(y), g.row(y), b.row(y)];
                for (x, out) in out.chunks_exact_mut(3).enumerate() {
                    out.copy_from_slice(&[rows[0][x], rows[1][x], rows[2][x]]);
                }
            }
            (Colors::YCbCr, [luma, cb, cr]) => rgb_of(luma.row(y), cb.row(y), cr.row(y), out),
            (_, [first, second, third, key]) => {
                let (first, second, third) = (first.row(y), second.row(y), third.row(y));
                if colors == Colors::Ycck {
                    rgb_of(first, second, third, out);
                } else {
                    for (x, out) in out.chunks_exact_mut(3).enumerate() {
                        out.copy_from_slice(&[255 - first[x], 255 - second[x], 255 - third[x]]);
                    }
                }
                inked(out, key.row(y));
            }
            _ => {}
        }
    }
    pixels
}

/// Writes `[w, 3]` of rows that are at least as long.
fn rgb_of(luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let width = out.len() / 3;
    for (run, out) in out.chunks_mut(3 * RUN).enumerate() {
        let span = run * RUN..width.min((run + 1) * RUN);
        let some = |row: &[u8]| {
            let mut whole = [0; RUN];
            match row[span.clone()].first_chunk() {
                Some(chunk) => whole = *chunk,
                None => whole[..span.len()].copy_from_slice(&row[span.clone()]),
            }
            whole
        };
        let planes = run_of_rgb(&some(luma), &some(cb), &some(cr));
        for (at, out) in out.chunks_exact_mut(3).enumerate() {
            out.copy_from_slice(&[planes[0][at], planes[1][at], planes[2][at]]);
        }
    }
}

/// Apart from the interleaving, so that vectors do it.
fn run_of_rgb(luma: &[u8; RUN], cb: &[u8; RUN], cr: &[u8; RUN]) -> [[u8; RUN]; 3] {
    let mut planes = [[0; RUN]; 3];
    for at in 0..RUN {
        let [red, green, blue] = rgb(luma[at], cb[at], cr[at]);
        planes[0][at] = red;
        planes[1][at] = green;
        planes[2][at] = blue;
    }
    planes
}

/// `R = Y + 1.402 Cr`, `G = Y - 0.34414 Cb - 0.71414 Cr`, `B = Y + 1.772 Cb`, in 65536ths, rounded as libjpeg rounds.
#[inline(always)]
fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let luma = i16::from(luma);
    let (cb, cr) = (i16::from(cb) - 128, i16::from(cr) - 128);
    let times = |value: i16, constant: i16| i32::from(value) * i32::from(constant);
    // Whole parts are taken out of the constants, so that the rest has 16 bits: 1.402 is 1 + 26345/65536, 1.772 is 2 -
    // 14942/65536, -0.71414 is -1 + 18734/65536; 0.34414 is 22554/65536.
    let red = luma + cr + ((times(cr, 26345) + HALF) >> 16) as i16;
    let blue = luma + 2 * cb + ((times(cb, -14942) + HALF) >> 16) as i16;
    let green = luma - cr + ((times(cb, -22554) + times(cr, 18734) + HALF) >> 16) as i16;
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Takes black ink from colors; `key` is inverted, as Adobe writes it.
fn inked(colors: &mut [u8], key: &[u8]) {
    for (rgb, &white) in colors.chunks_exact_mut(3).zip(key) {
        for value in rgb {
            // libjpeg hands out inverted inks, Pillow turns them and lays one over the other.
            let product = u32::from(*value) * u32::from(white) + 128;
            *value = white - (((product >> 8) + product) >> 8) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_those_of_libjpegs_tables() {
        let fixed = |constant: f64| (constant * 65536.0 + 0.5) as i64;
        for (luma, cb, cr) in (0..=255).step_by(5).flat_map(|luma| {
            (0..=255u8).flat_map(move |cb| (0..=255).step_by(3).map(move |cr| (luma, cb, cr)))
        }) {
            let (y, b, r) = (i64::from(luma), i64::from(cb) - 128, i64::from(cr) - 128);
            let red = y + ((fixed(1.402) * r + 32768) >> 16);
            let green = y + ((-fixed(0.34414) * b + 32768 - fixed(0.71414) * r) >> 16);
            let blue = y + ((fixed(1.772) * b + 32768) >> 16);
            let expected = [red, green, blue].map(|value| value.clamp(0, 255) as u8);
            assert_eq!(rgb(luma, cb, cr), expected, "{luma} {cb} {cr}");
        }
    }
}
