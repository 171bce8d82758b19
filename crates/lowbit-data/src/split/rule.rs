//! How images are told apart, as `--split` says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which images are learned from, which choose (the epoch, the settings), and which are measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SplitRule {
    /// As the data ships its parts; where it has none, a seeded stratified split of which `LoadOptions::test_fraction` is for
    /// testing. Nothing is kept for validation.
    #[default]
    Auto,
    /// The same, and so many percent of the training images are for validation.
    Validation(u8),
    /// Percent of the images for training, validation and testing, of data that has no parts of its own.
    Shares([u8; 3]),
    /// The published spatial split of EuroSAT, by longitude: 16,200, 5,400 and 5,400 images.
    Spatial,
    /// Lists of images' names, a line each.
    Lists {
        /// Images to learn from.
        train: PathBuf,
        /// Images that choose.
        validation: Option<PathBuf>,
        /// Images to measure on.
        test: PathBuf,
    },
}

impl SplitRule {
    /// Share of the images that is for testing, where the data has no parts of its own and `usual` is what it would be.
    pub(crate) fn test_fraction(&self, usual: f64) -> f64 {
        match self {
            Self::Shares([_, _, test]) => f64::from(*test) / 100.0,
            _ => usual,
        }
    }

    /// Share of the training images that is for validation.
    pub(crate) fn validation_fraction(&self) -> f64 {
        match *self {
            Self::Validation(percent) => f64::from(percent) / 100.0,
            Self::Shares([train, validation, _]) => {
                f64::from(validation) / (f64::from(train) + f64::from(validation))
            }
            _ => 0.0,
        }
    }

    /// Whether it goes by the names of images.
    pub(crate) fn goes_by_names(&self) -> bool {
        matches!(self, Self::Spatial | Self::Lists { .. })
    }
}

impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Validation(percent) => write!(f, "val:{percent}"),
            Self::Shares([train, 0, test]) => write!(f, "{train}/{test}"),
            Self::Shares([train, validation, test]) => write!(f, "{train}/{validation}/{test}"),
            Self::Spatial => f.write_str("spatial"),
            Self::Lists {
                train,
                validation,
                test,
            } => {
                write!(f, "{},", train.display())?;
                if let Some(validation) = validation {
                    write!(f, "{},", validation.display())?;
                }
                write!(f, "{}", test.display())
            }
        }
    }
}

impl FromStr for SplitRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{}` is no split: use auto, val:10 (percent of the training images for validation), 60/20/20 (percent for \
                 training, validation and testing), spatial (EuroSAT's), or files with names of images: TRAIN,VAL,TEST or \
                 TRAIN,TEST",
                crate::error::one_line(text)
            )
        };
        let percent = |text: &str| {
            let number: u8 = text.trim().parse().ok()?;
            (1..=98).contains(&number).then_some(number)
        };
        match text {
            "auto" => return Ok(Self::Auto),
            "spatial" => return Ok(Self::Spatial),
            _ => {}
        }
        if let Some(share) = text.strip_prefix("val:") {
            return percent(share).map(Self::Validation).ok_or_else(expected);
        }
        let files: Vec<&str> = text.split(',').map(str::trim).collect();
        if files.iter().any(|file| file.is_empty()) {
            return Err(expected());
        }
        match files[..] {
            [train, test] => Ok(Self::Lists {
                train: train.into(),
                validation: None,
                test: test.into(),
            }),
            [train, validation, test] => Ok(Self::Lists {
                train: train.into(),
                validation: Some(validation.into()),
                test: test.into(),
            }),
            [shares] => {
                let shares: Option<Vec<u8>> = shares.split('/').map(percent).collect();
                let shares = match shares.as_deref() {
                    Some(&[train, test]) => [train, 0, test],
                    Some(&[train, validation, test]) => [train, validation, test],
                    _ => return Err(expected()),
                };
                match shares.iter().map(|&share| u32::from(share)).sum() {
                    100u32 => Ok(Self::Shares(shares)),
                    sum => Err(format!(
                        "the split {text} adds up to {sum} percent, not 100"
                    )),
                }
            }
            _ => Err(expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "auto",
            "val:10",
            "60/20/20",
            "80/20",
            "spatial",
            "a.txt,b.txt",
            "lists/a.txt,b.txt,c.txt",
        ] {
            assert_eq!(text.parse::<SplitRule>().unwrap().to_string(), text);
        }
        assert_eq!(
            "60/20/20"
                .parse::<SplitRule>()
                .unwrap()
                .validation_fraction(),
            0.25
        );
    }

    #[test]
    fn what_is_no_split_is_refused_in_one_line() {
        for text in [
            "", "a.txt", "a,,b", "a,b,c,d", "val:", "val:0", "val:99", "60/20", "50/50/50",
            "0/50/50", "100/0", "-1/101", "a\n/b",
        ] {
            let error = text.parse::<SplitRule>().unwrap_err();
            assert!(!error.contains('\n') && error.contains("split"), "{error}");
        }
    }
}
