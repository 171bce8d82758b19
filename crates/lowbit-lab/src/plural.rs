//! Numbers for people, with their nouns.

/// `1 bit`, `8 bits`; what a label says besides stays behind: `1 bit (edges 1)`.
#[must_use]
pub fn bits(label: impl std::fmt::Display) -> String {
    let label = label.to_string();
    let (number, rest) = label.split_at(label.find(' ').unwrap_or(label.len()));
    let noun = if number == "1" { "bit" } else { "bits" };
    format!("{number} {noun}{rest}")
}

/// `1 image`, `3 images`, `0.5 points`; for nouns that take an s.
#[must_use]
pub fn of(number: impl std::fmt::Display, noun: &str) -> String {
    let number = number.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// Writes a number with its thousands set apart: `1,738,408`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{bits, grouped, of};

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_738_408), "1,738,408");
    }

    #[test]
    fn one_of_a_kind_has_no_s() {
        assert_eq!(of(1, "image"), "1 image");
        assert_eq!(of(1.0, "point"), "1 point");
        assert_eq!(of(0.5, "point"), "0.5 points");
    }

    #[test]
    fn one_bit_is_one() {
        assert_eq!(bits(1), "1 bit");
        assert_eq!(bits(16), "16 bits");
        assert_eq!(
            bits("1 (edges 1, activations 4)"),
            "1 bit (edges 1, activations 4)"
        );
        assert_eq!(bits("8 (float activations)"), "8 bits (float activations)");
        assert_eq!(bits("unknown"), "unknown bits");
    }
}
