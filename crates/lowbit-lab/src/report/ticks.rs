//! Numbers at the ticks of axes.

/// A number with as many digits as a tick needs.
pub(super) fn short(value: &f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    with_digits(*value, digits)
}

/// Digits behind the point that tell some seven ticks of an axis apart.
pub(super) fn digits(span: f64) -> usize {
    (-(span / 7.0).log10()).ceil().clamp(0.0, 9.0) as usize
}

/// A number with at most so many digits behind the point.
pub(super) fn with_digits(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The same for 1, 2 and 5 of each decade, and nothing for others, which lie too close on a logarithmic axis.
pub(super) fn spread(value: &f64) -> String {
    let first = value / 10f64.powf(value.log10().floor());
    let is_named = [1.0, 2.0, 5.0, 10.0].map(|of| (first - of).abs() < 1e-6);
    match is_named.contains(&true) {
        true => short(value),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_may_be() {
        assert_eq!(short(&0.0), "0");
        assert_eq!(short(&92.5), "92.5");
        assert_eq!(short(&0.125), "0.125");
        assert_eq!(short(&1740.4), "1740");
        // Ticks of a narrow axis differ.
        let ticks = [2.295, 2.3, 2.305].map(|tick| with_digits(tick, digits(0.03)));
        assert_eq!(ticks, ["2.295", "2.3", "2.305"]);
        assert_eq!(with_digits(12.0, digits(20.0)), "12");
    }
}
