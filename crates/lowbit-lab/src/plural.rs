//! Numbers with their nouns, for people.

/// `1 bit`, `8 bits`; what a label says besides stays behind: `1 bit (edges 1)`.
#[must_use]
pub fn bits(label: impl std::fmt::Display) -> String {
    let label = label.to_string();
    let (number, rest) = label.split_at(label.find(' ').unwrap_or(label.len()));
    let noun = if number == "1" { "bit" } else { "bits" };
    format!("{number} {noun}{rest}")
}

#[cfg(test)]
mod tests {
    use super::bits;

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
