//! The first frame of a GIF. A transparent pixel has its palette's color; around a smaller frame lies the transparent
//! color, or else the palette's first, as Pillow shows it.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{MAX_PIXELS, Picture, check_size};

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let text = |error: gif::DecodingError| error.to_string();
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    if let Some(limit) = NonZeroU64::new(MAX_PIXELS as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(bytes).map_err(text)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    check_size(height, width)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(text)?;
    let frame = frame.ok_or("it has no frame")?;
    let palette = frame.palette.clone().or(global);
    let palette = palette.ok_or("its palette is missing")?;
    let color = |index: u8| -> Result<[u8; 3], String> {
        let found = palette
            .get(3 * usize::from(index)..)
            .and_then(|rest| rest.first_chunk());
        // Pillow's palettes go on in black.
        Ok(found.copied().unwrap_or_default())
    };
    let around = color(frame.transparent.unwrap_or(0))?;
    let mut pixels = around.repeat(width * height);
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let columns = usize::from(frame.width);
    if columns == 0 || frame.buffer.len() != columns * usize::from(frame.height) {
        return Err("its pixels are not all there".into());
    }
    for (y, row) in frame.buffer.chunks_exact(columns).enumerate() {
        let at = ((top + y) * width + left) * 3;
        let out = pixels.get_mut(at..at + 3 * columns);
        let out = out.ok_or("its frame lies beyond its edge")?;
        for (out, &index) in out.chunks_exact_mut(3).zip(row) {
            out.copy_from_slice(&color(index)?);
        }
    }
    let gray = palette
        .chunks_exact(3)
        .all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2]);
    if gray {
        pixels = pixels.into_iter().step_by(3).collect();
    }
    Ok(Picture {
        height,
        width,
        channels: if gray { 1 } else { 3 },
        pixels,
    })
}
