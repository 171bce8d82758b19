//! Channels that give one number whatever they see.

use super::super::finding::{Finding, Level, places, some_of};
use super::super::looks_at::LooksAt;
use super::super::patient::{Patient, spread};
use super::super::rule::Rule;
use super::clipped::IMAGES;
use crate::{LabError, plural};
use lowbit::quantize::channel_extremes;

pub(in super::super) const RULE: Rule = Rule {
    name: "silent-channels",
    looks_at: LooksAt::FloatImages,
    finds: "channels of products that give the same number on all images: their ReLU never opens",
    source: "dying ReLUs (Lu et al. 2019); such channels cost what living ones do",
    look,
};

/// Share of a model's channels from which on it is worth a warning.
const MUCH: f64 = 0.1;

fn look(patient: &Patient<'_>) -> Result<Vec<Finding>, LabError> {
    let (Some(images), Some(model)) = (patient.seen(), patient.float()?) else {
        return Ok(vec![]);
    };
    let some = spread(&images.test, IMAGES);
    if some.len() < 2 {
        return Ok(vec![]);
    }
    let seen = channel_extremes(&model, &some.images()?);
    let (mut found, mut all) = (Vec::new(), 0);
    for (index, step) in patient.steps()?.iter().enumerate() {
        let Some(channels) = seen.get(index + 1).filter(|_| step.has_weights()) else {
            continue;
        };
        let silent = channels.iter().filter(|(low, high)| low == high).count();
        all += channels.len();
        if silent > 0 {
            found.push((silent, step.name.clone()));
        }
    }
    let silent: usize = found.iter().map(|(silent, _)| silent).sum();
    if silent == 0 {
        return Ok(vec![]);
    }
    found.sort_by_key(|(silent, _)| std::cmp::Reverse(*silent));
    let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    let is_much = silent as f64 >= MUCH * all as f64;
    Ok(vec![Finding {
        level: if is_much { Level::Warning } else { Level::Note },
        rule: RULE.name.into(),
        evidence: format!(
            "on {} {silent} of {} give one number each: {}",
            plural::of(some.len(), "image"),
            plural::of(all, "channel"),
            some_of(&names)
        ),
        places: places(&names),
        cost: "their time and bytes, for a constant".into(),
        remedy: "train with a lower rate, or prune them".into(),
    }])
}
