//! The command that makes a candidate's file.

use super::Candidate;
use crate::Config;
use crate::experiments::unseen::Choice;
use crate::models::is_onnx;
use std::path::Path;

/// What candidates are made of: a model, by images.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The model's file.
    pub file: &'a Path,
    /// Which images were asked for by hand.
    pub choice: Choice,
    /// The settings.
    pub config: &'a Config,
}

impl Origin<'_> {
    /// Returns the command that makes the candidate, of which so many images set the ranges; those with layers of different
    /// widths read them from the file `layers`.
    #[must_use]
    pub fn command(
        &self,
        candidate: &Candidate,
        calibration_images: usize,
        layers: Option<&Path>,
    ) -> String {
        let config = self.config;
        let mut flags = candidate.flags();
        if let Some(file) = layers {
            flags += &format!(" --layer-bits {}", quoted(&format!("@{}", file.display())));
        }
        let of_onnx = |value: &str| match is_onnx(self.file) {
            true => value.to_owned(),
            false => String::new(),
        };
        let mut command = format!(
            "{} --data {} {}",
            candidate.verb(&quoted(&self.file.display().to_string())),
            quoted(&config.images.data),
            flags
        );
        for (flag, value, default) in [
            // Only of a model that another program made they are taken.
            (
                "preprocess",
                of_onnx(&config.onnx.preprocess),
                String::new(),
            ),
            (
                "labels",
                of_onnx(&config.onnx.labels.display().to_string()),
                String::new(),
            ),
            (
                "data-dir",
                config.images.data_dir.display().to_string(),
                "data".into(),
            ),
            ("seed", config.run.seed.to_string(), "1".into()),
            (
                "image-size",
                config.input.image_size.to_string(),
                "0".into(),
            ),
            ("resize", config.input.resize.to_string(), "stretch".into()),
            ("limit", config.images.limit.to_string(), "0".into()),
            ("split", config.images.split.to_string(), "auto".into()),
            (
                "calibration-images",
                match candidate.training {
                    None => calibration_images.to_string(),
                    Some(_) => "512".into(),
                },
                "512".into(),
            ),
        ] {
            if value != default {
                command += &format!(" --{flag} {}", quoted(&value));
            }
        }
        if config.input.exif {
            command += " --exif";
        }
        if self.choice.all {
            command += " --all";
        }
        if let Some(seed) = self.choice.split_seed {
            command += &format!(" --split-seed {seed}");
        }
        command
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,+~@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_with_blanks_are_one_word_to_a_shell() {
        assert_eq!(quoted("a/b-1.onnx"), "a/b-1.onnx");
        assert_eq!(quoted("my model's"), r"'my model'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
