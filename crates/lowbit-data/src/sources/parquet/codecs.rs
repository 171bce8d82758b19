//! A page's bytes, unpacked: snappy, gzip, Zstandard, LZ4 and Brotli.

use std::io::Read;

use flate2::read::MultiGzDecoder;

const WRONG_SIZE: &str = "a page unpacks to another size than it claims";

/// The `size` bytes that `body` is compressed from; never allocates much more than `body` unpacks to.
pub(super) fn unpack(codec: i64, body: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| format!("a page cannot be unpacked: {error}");
    let bytes = match codec {
        0 => body.to_vec(),
        1 => {
            let claim = snap::raw::decompress_len(body).map_err(|error| text(&error))?;
            // Three bytes of snappy copy at most 64.
            if claim != size || claim / 32 > body.len() {
                return Err(WRONG_SIZE.into());
            }
            let mut decoder = snap::raw::Decoder::new();
            decoder.decompress_vec(body).map_err(|error| text(&error))?
        }
        2 => read(MultiGzDecoder::new(body), size).map_err(|error| text(&error))?,
        4 => {
            let decoder = brotli_decompressor::Decompressor::new(body, 1 << 12);
            read(decoder, size).map_err(|error| text(&error))?
        }
        5 => hadoop(body, size).or_else(|_| lz4(body, size))?,
        6 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(body);
            let decoder = decoder.map_err(|error| text(&error))?;
            read(decoder, size).map_err(|error| text(&error))?
        }
        7 => lz4(body, size)?,
        other => return Err(format!("it is compressed by the unknown method {other}")),
    };
    match bytes.len() == size {
        true => Ok(bytes),
        false => Err(WRONG_SIZE.into()),
    }
}

/// At most one byte more than `size`.
fn read(decoder: impl Read, size: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder.take(size as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A block without a frame.
fn lz4(body: &[u8], size: usize) -> Result<Vec<u8>, String> {
    // One byte of LZ4 adds at most 255 to a length.
    if size / 256 > body.len() {
        return Err(WRONG_SIZE.into());
    }
    lz4_flex::block::decompress(body, size)
        .map_err(|error| format!("a page cannot be unpacked: {error}"))
}

/// Hadoop's frames: blocks behind their two sizes, big-endian.
fn hadoop(mut body: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<8>() {
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| head[at + i])) as usize;
        let (block, after) = rest.split_at_checked(word(4)).ok_or(WRONG_SIZE)?;
        if word(0) > size - bytes.len() {
            return Err(WRONG_SIZE.into());
        }
        bytes.extend(lz4(block, word(0))?);
        body = after;
    }
    match body.is_empty() && bytes.len() == size {
        true => Ok(bytes),
        false => Err(WRONG_SIZE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_claims_to_unpack_to_too_much_is_refused_before_allocating() {
        let claim = [0xFF, 0xFF, 0xFF, 0x7F, 0];
        for codec in [1, 5, 7] {
            assert!(unpack(codec, &claim, (1 << 28) - 1).is_err(), "{codec}");
        }
        assert!(unpack(0, &[1, 2], 3).is_err());
        assert!(unpack(99, &[], 0).expect_err("unknown").contains("99"));
    }

    #[test]
    fn lz4_is_read_with_and_without_frames() {
        // A literal run of five: token 0x50.
        let block = [0x50, b'h', b'e', b'l', b'l', b'o'];
        assert_eq!(unpack(7, &block, 5).expect("a block"), b"hello");
        let framed = [
            &[0, 0, 0, 5, 0, 0, 0, 6][..],
            &block,
            &[0, 0, 0, 5, 0, 0, 0, 6],
            &block,
        ];
        assert_eq!(
            unpack(5, &framed.concat(), 10).expect("frames"),
            b"hellohello"
        );
        assert_eq!(unpack(5, &block, 5).expect("a bare block"), b"hello");
    }
}
