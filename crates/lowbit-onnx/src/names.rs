//! Names: each given once, and printed in one line.

use std::collections::{HashMap, HashSet};

/// Names that are given, of which each is another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// The number to try next behind a name that is taken, so that equal ones cost no search each.
    next: HashMap<String, usize>,
}

impl Names {
    /// Takes a name, or one made of it where it is taken.
    pub(crate) fn take(&mut self, wanted: &str) -> String {
        if self.taken.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let count = self.next.entry(wanted.to_owned()).or_insert(2);
        loop {
            let name = format!("{wanted}_{count}");
            *count += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        Self {
            taken: names.into_iter().map(str::to_owned).collect(),
            next: HashMap::new(),
        }
    }
}

/// A text of a file as one line: characters that end lines or steer terminals as their escapes.
pub(crate) fn one_line(text: &str) -> String {
    let is_control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match is_control(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_given_once() {
        let mut names: Names = ["conv", "conv_2"].into_iter().collect();
        assert_eq!(names.take("conv"), "conv_3");
        assert_eq!(names.take("conv"), "conv_4");
        assert_eq!(names.take("conv_2"), "conv_2_2");
        assert_eq!(names.take("other"), "other");
    }

    #[test]
    fn many_equal_names_are_not_searched_for() {
        let mut names = Names::default();
        let count = 200_000;
        let last = (0..count).map(|_| names.take("node")).last();
        assert_eq!(last, Some(format!("node_{count}")));
    }

    #[test]
    fn a_name_is_printed_in_one_line() {
        assert_eq!(
            one_line("a\nb\r\t\u{1b}[2J\u{2028}é \\"),
            "a\\nb\\r\\t\\u{1b}[2J\\u{2028}é \\"
        );
    }
}
