//! Markers and what they say: tables, the frame, the scans.
//!
//! ITU-T T.81, annex B. Bytes between two markers are skipped, as libjpeg does.

use std::rc::Rc;

use super::bits::Table;
use crate::decode::check_size;

/// From the order of coefficients in the file to rows.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// One plane of the picture as the file holds it.
#[derive(Clone)]
pub(super) struct Component {
    id: u8,
    /// Sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    quantizers: usize,
    /// Its own size in samples.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Its size in blocks, and that of its storage: whole MCUs.
    pub(super) blocks: (usize, usize),
    pub(super) stored: (usize, usize),
}

/// The picture's size and its planes.
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The largest sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    /// The picture's size in MCUs.
    pub(super) mcus: (usize, usize),
    pub(super) components: Vec<Component>,
}

/// A scan's header: which planes, with which tables, and which coefficients.
pub(super) struct Scan {
    /// Component, DC table, AC table.
    pub(super) components: Vec<(usize, usize, usize)>,
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits below those that were sent before and those that are sent now.
    pub(super) high: u32,
    pub(super) low: u32,
    /// Where its data begin.
    pub(super) data: usize,
}

/// The tables that segments define.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) dc: [Option<Rc<Table>>; 4],
    pub(super) ac: [Option<Rc<Table>>; 4],
    quantizers: [Option<[i16; 64]>; 4],
    /// MCUs between restarts; 0 for none.
    pub(super) restart: usize,
    /// The color transform of Adobe's marker.
    pub(super) adobe: Option<u8>,
    pub(super) jfif: bool,
}

impl Tables {
    /// The quantizers that `component` asks for, in rows.
    pub(super) fn quantizers(&self, component: &Component) -> Result<[i16; 64], String> {
        let found = self.quantizers.get(component.quantizers).copied().flatten();
        found.ok_or_else(|| "a quantization table is missing".into())
    }
}

/// What the next marker begins.
pub(super) enum Segment {
    Frame(Frame),
    Scan(Scan),
    Other,
    End,
}

/// Reads segments, one after the other.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) tables: Tables,
}

const CUT: &str = "it ends too early; it may be cut off";

impl<'a> Reader<'a> {
    /// Reads on from after the first marker.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            tables: Tables::default(),
        }
    }

    /// The next marker; `None` at the end of the file.
    pub(super) fn marker(&mut self) -> Option<u8> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xFF)?;
            let rest = &self.bytes[self.at..];
            let filled = rest.iter().take_while(|&&byte| byte == 0xFF).count();
            let code = *rest.get(filled)?;
            self.at += filled + 1;
            if code != 0 {
                return Some(code);
            }
        }
    }

    /// Reads the next segment; `frame` is the frame so far.
    pub(super) fn segment(&mut self, frame: Option<&Frame>) -> Result<Segment, String> {
        let code = self.marker().ok_or(CUT)?;
        match code {
            0xD9 => return Ok(Segment::End),
            0x01 | 0xD0..=0xD7 => return Ok(Segment::Other),
            0xD8 => return Err("a second picture begins in the middle of it".into()),
            _ => {}
        }
        let len = self.bytes.get(self.at..self.at + 2).ok_or(CUT)?;
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        if len < 2 {
            return Err("a header claims no length".into());
        }
        let body = self.bytes.get(self.at + 2..self.at + len).ok_or(CUT)?;
        self.at += len;
        match code {
            0xC4 => self.tables.define_codes(body)?,
            0xDB => self.tables.define_quantizers(body)?,
            0xDD => match body {
                &[high, low] => self.tables.restart = usize::from(u16::from_be_bytes([high, low])),
                _ => return Err("its restart interval is damaged".into()),
            },
            0xE0 if body.len() >= 12 && body.starts_with(b"JFIF\0") => self.tables.jfif = true,
            0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => {
                self.tables.adobe = Some(body[11]);
            }
            0xC0..=0xC2 => {
                if frame.is_some() {
                    return Err("it has two frames".into());
                }
                return Frame::read(body, code == 0xC2).map(Segment::Frame);
            }
            0xC3 | 0xC5..=0xCF => return Err(unusual(code).into()),
            0xDA => {
                let frame = frame.ok_or("its data come before its size")?;
                return Scan::read(body, frame, self.at).map(Segment::Scan);
            }
            _ => {}
        }
        Ok(Segment::Other)
    }

    /// Passes the restart marker of this number.
    pub(super) fn restart(&mut self, number: usize) -> Result<(), String> {
        match self.marker() {
            None => Err(CUT.into()),
            Some(code) if usize::from(code) == 0xD0 + number % 8 => Ok(()),
            Some(_) => Err("its data are damaged (a restart marker is missing)".into()),
        }
    }
}

fn unusual(code: u8) -> &'static str {
    match code {
        0xC3 | 0xC7 | 0xCB | 0xCF => {
            "it is a lossless JPEG; only baseline and progressive ones are read"
        }
        0xC9 | 0xCA | 0xCC | 0xCD | 0xCE => {
            "it is an arithmetic-coded JPEG; only baseline and progressive ones are read"
        }
        _ => "it is a hierarchical JPEG; only baseline and progressive ones are read",
    }
}

impl Frame {
    fn read(body: &[u8], progressive: bool) -> Result<Self, String> {
        let damaged = || "its frame header is damaged".to_string();
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = body else {
            return Err(damaged());
        };
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (height, width) = (size(h1, h0), size(w1, w0));
        if precision != 8 {
            return Err(format!("it has {precision} bits per channel, not 8"));
        }
        check_size(height, width)?;
        if !matches!(count, 1 | 3 | 4) || rest.len() != 3 * usize::from(count) {
            return Err(format!("it has {count} channels, not 1, 3 or 4"));
        }
        let factors: Vec<(usize, usize)> = rest
            .chunks_exact(3)
            .map(|about| (usize::from(about[1] >> 4), usize::from(about[1] & 15)))
            .collect();
        if factors
            .iter()
            .any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v))
        {
            return Err(damaged());
        }
        let h_max = factors.iter().map(|factor| factor.0).max().unwrap_or(1);
        let v_max = factors.iter().map(|factor| factor.1).max().unwrap_or(1);
        if factors
            .iter()
            .any(|&(h, v)| h_max % h != 0 || v_max % v != 0)
        {
            return Err("its channels are sampled at odd ratios".into());
        }
        let mcus = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let components = rest.chunks_exact(3).zip(factors).map(|(about, (h, v))| {
            let (width, height) = ((width * h).div_ceil(h_max), (height * v).div_ceil(v_max));
            Component {
                id: about[0],
                h,
                v,
                quantizers: usize::from(about[2]),
                width,
                height,
                blocks: (width.div_ceil(8), height.div_ceil(8)),
                stored: (mcus.0 * h, mcus.1 * v),
            }
        });
        Ok(Self {
            progressive,
            width,
            height,
            h: h_max,
            v: v_max,
            mcus,
            components: components.collect(),
        })
    }

    /// The channels' identifiers.
    pub(super) fn ids(&self) -> Vec<u8> {
        self.components
            .iter()
            .map(|component| component.id)
            .collect()
    }
}

impl Scan {
    fn read(body: &[u8], frame: &Frame, data: usize) -> Result<Self, String> {
        let damaged = || "a scan's header is damaged".to_string();
        let (&count, rest) = body.split_first().ok_or_else(damaged)?;
        let count = usize::from(count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return Err(damaged());
        }
        let (named, progress) = rest.split_at(2 * count);
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for about in named.chunks_exact(2) {
            let index = frame.components.iter().position(|c| c.id == about[0]);
            let index = index.ok_or_else(damaged)?;
            let tables = (usize::from(about[1] >> 4), usize::from(about[1] & 15));
            if tables.0 > 3 || tables.1 > 3 || components.iter().any(|c| c.0 == index) {
                return Err(damaged());
            }
            components.push((index, tables.0, tables.1));
        }
        let blocks = |&(index, _, _): &(usize, usize, usize)| {
            frame.components[index].h * frame.components[index].v
        };
        if count > 1 && components.iter().map(blocks).sum::<usize>() > 10 {
            return Err(damaged());
        }
        let (first, last) = (usize::from(progress[0]), usize::from(progress[1]));
        let (high, low) = (u32::from(progress[2] >> 4), u32::from(progress[2] & 15));
        let dc_or_one_ac = match first {
            0 => last == 0,
            _ => first <= last && last < 64 && count == 1,
        };
        let next_bit = high == 0 || low + 1 == high;
        if frame.progressive && !(dc_or_one_ac && next_bit && low <= 13) {
            return Err(damaged());
        }
        Ok(Self {
            components,
            first,
            last,
            high,
            low,
            data,
        })
    }
}

impl Tables {
    fn define_codes(&mut self, mut body: &[u8]) -> Result<(), String> {
        let damaged = || "a Huffman table is damaged".to_string();
        while let Some((&kind, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            if total > 256 || total > rest.len() || kind & 0xEC != 0 {
                return Err(damaged());
            }
            let (symbols, rest) = rest.split_at(total);
            let mut table = Table::new(counts, symbols).ok_or_else(damaged)?;
            let place = usize::from(kind & 3);
            match kind >> 4 {
                0 if table.holds_sizes() => self.dc[place] = Some(Rc::new(table)),
                1 => {
                    table.pair();
                    self.ac[place] = Some(Rc::new(table));
                }
                _ => return Err(damaged()),
            }
            body = rest;
        }
        Ok(())
    }

    fn define_quantizers(&mut self, mut body: &[u8]) -> Result<(), String> {
        let damaged = || "a quantization table is damaged".to_string();
        while let Some((&kind, rest)) = body.split_first() {
            let wide = match kind >> 4 {
                0 => 1,
                1 => 2,
                _ => return Err(damaged()),
            };
            let (values, rest) = rest.split_at_checked(64 * wide).ok_or_else(damaged)?;
            let mut quantizers = [0; 64];
            for (value, &place) in values.chunks_exact(wide).zip(&ZIGZAG) {
                let value = value
                    .iter()
                    .fold(0u16, |sum, &byte| sum << 8 | u16::from(byte));
                quantizers[usize::from(place)] = value as i16;
            }
            let slot = self.quantizers.get_mut(usize::from(kind & 15));
            *slot.ok_or_else(damaged)? = Some(quantizers);
            body = rest;
        }
        Ok(())
    }
}
