//! From a scan's bits to coefficients: sequential blocks, and the four kinds of progressive ones.
//!
//! ITU-T T.81, annexes F and G.

use super::bits::{Bits, Table};
use super::headers::{Frame, Reader, Scan, ZIGZAG};

/// The coefficients of one block, in rows.
pub(super) type Block = [i16; 64];

const BEYOND: &str = "its data are damaged (a run leads beyond its block)";

/// Goes through the blocks of `scan` in their order, restarts in between, and hands each to `block` with its component,
/// column and row.
pub(super) fn walk<'a>(
    reader: &mut Reader<'a>,
    frame: &Frame,
    scan: &Scan,
    mut block: impl FnMut(&mut Bits<'a>, &mut State, Place) -> Result<(), String>,
) -> Result<(), String> {
    let alone = match scan.components[..] {
        [(index, _, _)] => Some(index),
        _ => None,
    };
    let (columns, rows) = match alone {
        Some(index) => frame.components[index].blocks,
        None => frame.mcus,
    };
    let mut bits = Bits::new(reader.bytes, scan.data);
    let mut state = State::default();
    let interval = reader.tables.restart;
    for mcu in 0..columns * rows {
        if interval > 0 && mcu > 0 && mcu % interval == 0 {
            reader.at = bits.position();
            reader.restart(mcu / interval - 1)?;
            bits = Bits::new(reader.bytes, reader.at);
            state = State::default();
        }
        let (column, row) = (mcu % columns, mcu / columns);
        for (member, &(index, _, _)) in scan.components.iter().enumerate() {
            let (h, v) = match alone {
                Some(_) => (1, 1),
                None => (frame.components[index].h, frame.components[index].v),
            };
            for (y, x) in (0..v).flat_map(|y| (0..h).map(move |x| (y, x))) {
                let place = Place {
                    member,
                    component: index,
                    column: column * h + x,
                    row: row * v + y,
                };
                block(&mut bits, &mut state, place)?;
            }
        }
        if bits.overdrawn() {
            return Err("its data end too early; it may be cut off".into());
        }
    }
    reader.at = bits.position();
    Ok(())
}

/// Where a block belongs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its component's place in the scan.
    pub(super) member: usize,
    pub(super) component: usize,
    pub(super) column: usize,
    pub(super) row: usize,
}

/// What one block leaves to the next.
#[derive(Default)]
pub(super) struct State {
    /// The last first coefficient of each component.
    means: [i32; 4],
    /// Blocks still to come that have nothing more.
    ended: u32,
}

impl State {
    fn mean(&mut self, bits: &mut Bits, dc: &Table, member: usize) -> Result<i32, String> {
        bits.refill();
        let size = dc.symbol(bits)?;
        let step = bits.signed(u32::from(size));
        self.means[member] = self.means[member].wrapping_add(step);
        Ok(self.means[member])
    }

    /// Reads a whole block; returns whether it has more than its first coefficient.
    pub(super) fn sequential(
        &mut self,
        bits: &mut Bits,
        (dc, ac): (&Table, &Table),
        member: usize,
        block: &mut Block,
    ) -> Result<bool, String> {
        block[0] = self.mean(bits, dc, member)? as i16;
        let mut k = 1;
        while k < 64 {
            bits.refill();
            if let Some((run, value)) = ac.pair_at(bits) {
                k += run;
                *at(block, k)? = value;
                k += 1;
                continue;
            }
            let symbol = ac.symbol(bits)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run != 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            *at(block, k)? = bits.signed(size) as i16;
            k += 1;
        }
        Ok(k > 1)
    }

    /// The first bits of a block's first coefficient.
    pub(super) fn first_mean(
        &mut self,
        bits: &mut Bits,
        dc: &Table,
        (member, low): (usize, u32),
        block: &mut Block,
    ) -> Result<(), String> {
        block[0] = (self.mean(bits, dc, member)? << low) as i16;
        Ok(())
    }

    /// The first bits of the coefficients that `scan` is for.
    pub(super) fn first_bits(
        &mut self,
        bits: &mut Bits,
        ac: &Table,
        scan: &Scan,
        block: &mut Block,
    ) -> Result<(), String> {
        if self.ended > 0 {
            self.ended -= 1;
            return Ok(());
        }
        let mut k = scan.first;
        while k <= scan.last {
            bits.refill();
            let symbol = ac.symbol(bits)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                k += run;
                *at(block, k)? = (bits.signed(size) << scan.low) as i16;
            } else if run == 15 {
                k += 15;
            } else {
                self.ended = (1 << run) + bits.take(run as u32) - 1;
                break;
            }
            k += 1;
        }
        Ok(())
    }

    /// One more bit of the coefficients that `scan` is for.
    pub(super) fn next_bit(
        &mut self,
        bits: &mut Bits,
        ac: &Table,
        scan: &Scan,
        block: &mut Block,
    ) -> Result<(), String> {
        let step = 1i16 << scan.low;
        let mut k = scan.first;
        while self.ended == 0 && k <= scan.last {
            bits.refill();
            let symbol = ac.symbol(bits)?;
            let (mut run, size) = (usize::from(symbol >> 4), symbol & 15);
            let mut value = 0;
            if size > 0 {
                value = if bits.bit() { step } else { -step };
            } else if run < 15 {
                bits.refill();
                self.ended = (1 << run) + bits.take(run as u32);
                break;
            }
            // Passes `run` coefficients that are still zero; those that are not get their next bit.
            while k <= scan.last {
                let known = at(block, k)?;
                if *known != 0 {
                    refine(bits, known, step);
                } else if run == 0 {
                    *known = value;
                    k += 1;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
        }
        if self.ended > 0 {
            for k in k..=scan.last {
                let known = at(block, k)?;
                if *known != 0 {
                    refine(bits, known, step);
                }
            }
            self.ended -= 1;
        }
        Ok(())
    }
}

fn refine(bits: &mut Bits, known: &mut i16, step: i16) {
    if bits.bit() && *known & step == 0 {
        *known = known.wrapping_add(if *known > 0 { step } else { -step });
    }
}

/// Coefficient `k` in the file's order.
#[inline(always)]
fn at(block: &mut Block, k: usize) -> Result<&mut i16, String> {
    match ZIGZAG.get(k) {
        Some(&place) => Ok(&mut block[usize::from(place & 63)]),
        None => Err(BEYOND.into()),
    }
}
