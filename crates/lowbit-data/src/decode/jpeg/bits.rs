//! Entropy-coded data as a stream of bits, and Huffman tables.
//!
//! ITU-T T.81, annexes C and F.

/// Bits that one look-up decides.
const LOOK: u32 = 9;

/// Reads bits of entropy-coded data, most significant first, up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits from the top; zeros beyond the end.
    buffer: u64,
    /// Bits in `buffer`; negative once more were taken than there are.
    count: i32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            count: 0,
        }
    }

    /// Where the search for the next marker goes on.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether more bits were taken than the data has.
    pub(super) fn overdrawn(&self) -> bool {
        self.count < 0
    }

    /// Makes sure that 32 bits are there, where the data has them.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count < 32 {
            self.fill();
        }
    }

    #[inline]
    fn fill(&mut self) {
        if self.count < 0 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..self.at + 8) {
            let word = u64::from_be_bytes(std::array::from_fn(|i| next[i]));
            if !has_ff(word) {
                self.buffer |= word >> self.count;
                self.at += (63 - self.count as usize) / 8;
                self.count |= 56;
                return;
            }
        }
        while self.count <= 56 {
            let Some(byte) = self.next_byte() else {
                return;
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next byte of data: a stuffed zero is taken away; a marker stays where it is.
    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        if byte != 0xFF {
            self.at += 1;
            return Some(byte);
        }
        let filled = self.bytes[self.at..].iter().take_while(|&&b| b == 0xFF);
        let next = self.at + filled.count();
        if self.bytes.get(next) != Some(&0) {
            return None;
        }
        self.at = next + 1;
        Some(0xFF)
    }

    /// The next `count` bits (1 to 32), left where they are.
    #[inline(always)]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count as i32;
    }

    /// Takes `count` bits (0 to 16), of those that `refill` got.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let value = self.peek(count);
        self.skip(count);
        value
    }

    /// Takes a number of `size` bits (0 to 15) whose first bit is its sign: T.81's EXTEND.
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.take(size) as i32;
        match value < 1 << (size - 1) {
            true => value + 1 - (1 << size),
            false => value,
        }
    }

    /// Takes a single bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        self.refill();
        self.take(1) == 1
    }
}

/// Whether one of the eight bytes is 0xFF.
fn has_ff(word: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    // A byte is 0xFF where its complement is zero.
    let inverse = !word;
    inverse.wrapping_sub(LOW) & word & (LOW << 7) != 0
}

/// A Huffman code.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next `LOOK` bits: length << 8 | symbol; 0 where the code is longer.
    look: Vec<u16>,
    /// The same for a run and its value at once: value << 16 | run << 8 | bits; 0 where they do not fit.
    /// Empty without [`Table::pair`].
    pairs: Vec<i32>,
    symbols: Vec<u8>,
    /// By length: what the codes of this length lie below, from the top of 16 bits.
    ends: [u32; 17],
    /// By length: what to add to a code to get its symbol's place.
    shifts: [i32; 17],
}

impl Table {
    /// The code with `counts[n]` symbols of `n + 1` bits.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            look: vec![0; 1 << LOOK],
            pairs: Vec::new(),
            symbols: symbols.to_vec(),
            ends: [0; 17],
            shifts: [0; 17],
        };
        let (mut code, mut place) = (0u32, 0usize);
        for len in 1..=16u32 {
            let count = usize::from(counts[len as usize - 1]);
            table.shifts[len as usize] = place as i32 - code as i32;
            for &symbol in symbols.get(place..place + count)? {
                if code >= 1 << len {
                    return None;
                }
                if len <= LOOK {
                    let first = (code << (LOOK - len)) as usize;
                    let entry = (len as u16) << 8 | u16::from(symbol);
                    table.look[first..first + (1 << (LOOK - len))].fill(entry);
                }
                code += 1;
            }
            place += count;
            table.ends[len as usize] = code << (16 - len);
            code <<= 1;
        }
        Some(table)
    }

    /// Fills in `pairs`, for AC coefficients: a symbol is a run of zeros and a size, the value's bits follow it.
    pub(super) fn pair(&mut self) {
        self.pairs = vec![0; 1 << LOOK];
        for next in 0..1usize << LOOK {
            let (len, symbol) = (u32::from(self.look[next] >> 8), self.look[next] & 0xFF);
            let (run, size) = (i32::from(symbol >> 4), u32::from(symbol & 15));
            if len == 0 || size == 0 || len + size > LOOK {
                continue;
            }
            let bits = (next as i32 >> (LOOK - len - size)) & ((1 << size) - 1);
            let value = match bits < 1 << (size - 1) {
                true => bits + 1 - (1 << size),
                false => bits,
            };
            self.pairs[next] = value << 16 | run << 8 | (len + size) as i32;
        }
    }

    /// Whether every symbol is a size, as those of DC coefficients are.
    pub(super) fn holds_sizes(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol <= 15)
    }

    /// Takes a run and a value that lie in the next bits together.
    #[inline(always)]
    pub(super) fn pair_at(&self, bits: &mut Bits) -> Option<(usize, i16)> {
        let pair = *self.pairs.get(bits.peek(LOOK) as usize)?;
        if pair == 0 {
            return None;
        }
        bits.skip((pair & 0xFF) as u32);
        Some(((pair >> 8 & 0xFF) as usize, (pair >> 16) as i16))
    }

    /// Takes one symbol.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> Result<u8, String> {
        let entry = self.look[bits.peek(LOOK) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry >> 8));
            return Ok(entry as u8);
        }
        self.long_symbol(bits)
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits) -> Result<u8, String> {
        let next = bits.peek(16);
        let len = (LOOK as usize + 1..=16).find(|&len| next < self.ends[len]);
        let found = len.and_then(|len| {
            let place = (next >> (16 - len)) as i32 + self.shifts[len];
            bits.skip(len as u32);
            self.symbols.get(usize::try_from(place).ok()?)
        });
        found
            .copied()
            .ok_or_else(|| "its data are damaged (no such Huffman code)".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffed_zeros_are_taken_away_and_a_marker_ends_the_bits() {
        let mut bits = Bits::new(&[0xFF, 0, 0x12, 0xFF, 0xFF, 0, 0x34, 0xFF, 0xD9, 7], 0);
        bits.refill();
        assert_eq!(bits.take(16), 0xFF12);
        bits.refill();
        assert_eq!(bits.take(16), 0xFF34);
        assert!(!bits.overdrawn());
        assert_eq!(bits.position(), 7);
        bits.refill();
        bits.take(1);
        assert!(bits.overdrawn());
    }

    #[test]
    fn bits_come_in_order_with_and_without_the_fast_path() {
        let bytes: Vec<u8> = (0..40).collect();
        let mut bits = Bits::new(&bytes, 0);
        for byte in 0..40 {
            bits.refill();
            assert_eq!(bits.take(3), byte >> 5);
            bits.refill();
            assert_eq!(bits.take(5), byte & 31);
        }
        assert!(!bits.overdrawn());
    }

    #[test]
    fn signed_numbers_are_those_of_the_standard() {
        // T.81, table F.1: size 2 holds -3, -2, 2, 3.
        let mut bits = Bits::new(&[0b0001_1011], 0);
        bits.refill();
        assert_eq!([(); 4].map(|()| bits.signed(2)), [-3, -2, 2, 3]);
    }

    #[test]
    fn short_and_long_codes_are_read() {
        // One code of each length: 0, 10, 110, ...
        let symbols: Vec<u8> = (0..16).collect();
        let table = Table::new(&[1; 16], &symbols).expect("a code");
        for (len, symbol) in (1..=16).zip(0..16) {
            let code = (0xFFFF_u32 << (17 - len)) as u16;
            let mut bytes = vec![];
            for byte in code.to_be_bytes() {
                bytes.push(byte);
                if byte == 0xFF {
                    bytes.push(0);
                }
            }
            let mut bits = Bits::new(&bytes, 0);
            bits.refill();
            assert_eq!(table.symbol(&mut bits).as_ref(), Ok(&symbol), "{len}");
        }
        let mut bits = Bits::new(&[0xFF, 0, 0xFF, 0], 0);
        bits.refill();
        assert!(table.symbol(&mut bits).is_err());
        assert!(
            Table::new(
                &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &[1, 2, 3]
            )
            .is_none()
        );
    }
}
