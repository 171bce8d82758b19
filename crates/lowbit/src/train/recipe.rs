//! The formulas by which bench/peers/recipe.py and tests make the same numbers, and the files that state them.

use serde_json::Value;

/// A file of tests/golden.
pub(super) fn golden(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A golden file's list of bytes.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_u64().unwrap() as u8).collect()
}

/// `h(i)`.
pub(super) fn hash(i: u64) -> u32 {
    let mut x = i.wrapping_mul(2_654_435_761) as u32;
    x ^= x >> 16;
    x = x.wrapping_mul(2_246_822_519);
    x ^= x >> 13;
    x = x.wrapping_mul(3_266_489_917);
    x ^ (x >> 16)
}

/// `s(i)`: in -1..1, exact in f32.
pub(super) fn signed(i: u64) -> f32 {
    2.0 * ((hash(i) >> 8) as f32 / (1u32 << 24) as f32) - 1.0
}
