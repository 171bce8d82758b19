//! JPEG, to the bit as libjpeg-turbo decodes it: what Pillow, OpenCV and torchvision show.
//!
//! 8-bit baseline and progressive files with Huffman codes; gray, RGB, YCbCr, CMYK and YCCK; every sampling whose ratios are
//! whole. The inverse transform is "islow", chroma is enlarged by libjpeg's triangle filters, colors come from its tables.
//! Stricter than libjpeg in one thing: damaged or missing data are an error, not a picture with a gray rest.

mod bits;
mod color;
mod headers;
mod idct;
mod scan;
mod upsample;

use std::rc::Rc;

use super::Picture;
use bits::Table;
use color::Colors;
use headers::{Component, Frame, Reader, Scan, Segment};
use scan::{Block, walk};

/// Scans accepted in one file: each goes through the whole picture.
const MAX_SCANS: usize = 256;
/// The first coefficients of a block; where their last bits are missing, libjpeg invents a smooth picture.
const SMOOTHED: usize = 10;

/// The samples of one component, whole blocks.
struct Plane {
    stride: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn new(component: &Component) -> Self {
        let (columns, rows) = component.stored;
        Self {
            stride: columns * 8,
            samples: vec![0; columns * rows * 64],
        }
    }

    /// Where the block at `column` and `row` begins.
    fn block(&mut self, column: usize, row: usize) -> &mut [u8] {
        &mut self.samples[row * 8 * self.stride + column * 8..]
    }

    fn row(&self, row: usize, width: usize) -> &[u8] {
        &self.samples[row * self.stride..][..width]
    }
}

/// What the scans have brought so far.
struct Picked {
    planes: Vec<Plane>,
    quantizers: Vec<Option<[i16; 64]>>,
    /// Progressive: the coefficients of each component.
    coefficients: Vec<Vec<Block>>,
    /// By component: how many low bits of each coefficient are still to come; 255 where none came.
    missing: Vec<[u8; 64]>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut reader = Reader::new(bytes);
    let mut frame = None;
    let mut picked = None;
    for scans in 0.. {
        let scan = loop {
            match reader.segment(frame.as_ref())? {
                Segment::Frame(found) => frame = Some(found),
                Segment::Scan(scan) => break Some(scan),
                Segment::Other => {}
                Segment::End => break None,
            }
        };
        let Some((scan, frame)) = scan.zip(frame.as_ref()) else {
            break;
        };
        if scans == MAX_SCANS {
            return Err(format!("it has more than {MAX_SCANS} scans"));
        }
        let picked = picked.get_or_insert_with(|| Picked::new(frame));
        picked.latch(&reader, frame, &scan)?;
        if frame.progressive {
            picked.progressive(&mut reader, frame, &scan)?;
        } else {
            picked.sequential(&mut reader, frame, &scan)?;
            if scan.components.len() == frame.components.len() {
                break;
            }
        }
    }
    let (frame, mut picked) = frame.zip(picked).ok_or("it holds no picture")?;
    if frame.progressive {
        picked.transform(&frame)?;
    } else if picked.quantizers.iter().any(Option::is_none) {
        return Err("a channel is missing; it may be cut off".into());
    }
    let colors = Colors::of(&frame, &reader.tables);
    Ok(Picture {
        height: frame.height,
        width: frame.width,
        channels: colors.channels(),
        pixels: color::pixels(&frame, &picked.planes, colors),
    })
}

impl Picked {
    fn new(frame: &Frame) -> Self {
        let components = frame.components.iter();
        let blocks = |component: &Component| match frame.progressive {
            true => vec![[0; 64]; component.stored.0 * component.stored.1],
            false => Vec::new(),
        };
        Self {
            planes: components.clone().map(Plane::new).collect(),
            quantizers: vec![None; frame.components.len()],
            coefficients: components.map(blocks).collect(),
            missing: vec![[255; 64]; frame.components.len()],
        }
    }

    /// Keeps the quantizers that hold when a component's first scan begins.
    fn latch(&mut self, reader: &Reader, frame: &Frame, scan: &Scan) -> Result<(), String> {
        for &(index, _, _) in &scan.components {
            if self.quantizers[index].is_none() {
                let quantizers = reader.tables.quantizers(&frame.components[index])?;
                self.quantizers[index] = Some(quantizers);
            }
        }
        Ok(())
    }

    fn sequential(
        &mut self,
        reader: &mut Reader,
        frame: &Frame,
        scan: &Scan,
    ) -> Result<(), String> {
        let dc = tables(scan, &reader.tables.dc, |about| about.1)?;
        let ac = tables(scan, &reader.tables.ac, |about| about.2)?;
        let mut block = [0; 64];
        walk(reader, frame, scan, |bits, state, place| {
            let codes = (&*dc[place.member], &*ac[place.member]);
            let more = state.sequential(bits, codes, place.member, &mut block)?;
            let plane = &mut self.planes[place.component];
            let stride = plane.stride;
            let out = plane.block(place.column, place.row);
            let quantizers = self.quantizers[place.component].as_ref();
            let quantizers = quantizers.expect("latched before the scan");
            if more {
                idct::idct(&block, quantizers, out, stride);
                block = [0; 64];
            } else {
                idct::idct_of_mean(block[0], quantizers[0], out, stride);
            }
            Ok(())
        })
    }

    fn progressive(
        &mut self,
        reader: &mut Reader,
        frame: &Frame,
        scan: &Scan,
    ) -> Result<(), String> {
        let (dc, ac) = match (scan.first, scan.high) {
            (0, 0) => (tables(scan, &reader.tables.dc, |about| about.1)?, vec![]),
            (0, _) => (vec![], vec![]),
            _ => (vec![], tables(scan, &reader.tables.ac, |about| about.2)?),
        };
        let coefficients = &mut self.coefficients;
        walk(reader, frame, scan, |bits, state, place| {
            let columns = frame.components[place.component].stored.0;
            let block = &mut coefficients[place.component][place.row * columns + place.column];
            match (scan.first, scan.high) {
                (0, 0) => {
                    let (dc, member) = (&dc[place.member], place.member);
                    state.first_mean(bits, dc, (member, scan.low), block)
                }
                (0, _) => {
                    block[0] |= i16::from(bits.bit()) << scan.low;
                    Ok(())
                }
                (_, 0) => state.first_bits(bits, &ac[0], scan, block),
                _ => state.next_bit(bits, &ac[0], scan, block),
            }
        })?;
        for &(index, _, _) in &scan.components {
            self.missing[index][scan.first..=scan.last].fill(scan.low as u8);
        }
        Ok(())
    }

    /// From coefficients to samples, once all scans are in.
    fn transform(&mut self, frame: &Frame) -> Result<(), String> {
        let whole = |missing: &[u8; 64]| missing[..SMOOTHED].iter().all(|&bits| bits == 0);
        if !self.missing.iter().all(whole) {
            return Err("its last scans are missing; it may be cut off".into());
        }
        for (index, component) in frame.components.iter().enumerate() {
            let quantizers = self.quantizers[index].as_ref();
            let quantizers = quantizers.expect("latched before the first scan");
            let plane = &mut self.planes[index];
            let stride = plane.stride;
            for (at, block) in self.coefficients[index].iter().enumerate() {
                let (column, row) = (at % component.stored.0, at / component.stored.0);
                let out = plane.block(column, row);
                match block[1..].iter().all(|&value| value == 0) {
                    true => idct::idct_of_mean(block[0], quantizers[0], out, stride),
                    false => idct::idct(block, quantizers, out, stride),
                }
            }
        }
        Ok(())
    }
}

/// The Huffman tables of a scan's components.
fn tables(
    scan: &Scan,
    defined: &[Option<Rc<Table>>; 4],
    chosen: impl Fn(&(usize, usize, usize)) -> usize,
) -> Result<Vec<Rc<Table>>, String> {
    let found = scan
        .components
        .iter()
        .map(|about| defined[chosen(about)].clone());
    let found: Option<_> = found.collect();
    found.ok_or_else(|| "a Huffman table is missing".into())
}

/// The orientation data of a JPEG: those of its first `Exif` segment before the picture.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    while let Some(code) = reader.marker() {
        if matches!(code, 0xDA | 0xD9) {
            return None;
        }
        if matches!(code, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let len = bytes.get(reader.at..)?.first_chunk::<2>()?;
        let end = reader.at + usize::from(u16::from_be_bytes(*len));
        let body = bytes.get(reader.at + 2..end)?;
        if code == 0xE1 && body.starts_with(b"Exif\0\0") {
            return Some(body);
        }
        reader.at = end;
    }
    None
}
