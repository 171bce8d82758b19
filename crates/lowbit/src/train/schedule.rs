//! How the learning rate falls.

use serde::{Deserialize, Serialize};

/// The learning rate over the steps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// From the base to zero along half a cosine, step by step (Loshchilov & Hutter 2017, equation 5, one cycle).
    #[default]
    Cosine,
    /// The base throughout.
    Constant,
    /// From a 25th of the base up to it over the first three tenths of the steps, then down to a 250,000th, both along half
    /// a cosine (Smith & Topin 2018, as PyTorch's `OneCycleLR` does it by default, without cycling the momentum).
    OneCycle,
}

/// Share of the steps in which [`Schedule::OneCycle`] climbs.
const CLIMB: f64 = 0.3;

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total`.
    #[must_use]
    pub fn lr(self, base: f32, step: u64, total: u64) -> f32 {
        match self {
            Self::Constant => base,
            Self::Cosine => {
                let done = step as f64 / total.max(1) as f64;
                (f64::from(base) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32
            }
            Self::OneCycle => {
                let base = f64::from(base);
                let (low, lowest) = (base / 25.0, base / 25.0 / 1e4);
                let top = CLIMB * total as f64 - 1.0;
                let last = total as f64 - 1.0;
                let step = step as f64;
                let (from, to, done) = match step <= top {
                    true => (low, base, step / top.max(f64::MIN_POSITIVE)),
                    false => (base, lowest, ((step - top) / (last - top)).min(1.0)),
                };
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                (to + (from - to) * cosine) as f32
            }
        }
    }

    /// The learning rate of step `step` (from 0) of `total`, of which the first `warm_up` climb to the base on a line (Goyal et
    /// al. 2017, section 2.2) and the schedule takes the others.
    #[must_use]
    pub fn lr_after(self, warm_up: u64, base: f32, step: u64, total: u64) -> f32 {
        match step < warm_up {
            true => (f64::from(base) * (step + 1) as f64 / warm_up as f64) as f32,
            false => self.lr(base, step - warm_up, total.saturating_sub(warm_up)),
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Constant => "constant",
            Self::OneCycle => "onecycle",
        })
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "constant" => Ok(Self::Constant),
            "onecycle" => Ok(Self::OneCycle),
            _ => Err(format!(
                "unknown schedule {name}: use cosine, constant or onecycle"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_starts_at_the_base_halves_in_the_middle_and_ends_at_zero() {
        let lr = |step| Schedule::Cosine.lr(0.4, step, 100);
        assert_eq!(lr(0), 0.4);
        assert!((lr(50) - 0.2).abs() < 1e-7);
        assert!(lr(100).abs() < 1e-7);
        assert_eq!(Schedule::Constant.lr(0.4, 99, 100), 0.4);
    }

    #[rustfmt::skip]
    const ONE_CYCLE: [f64; 20] = [
        0.016, 0.0526687371, 0.148668737, 0.267331263, 0.363331263, 0.4, 0.394985602, 0.380193853, 0.356366471, 0.324698262,
        0.286777201, 0.244504809, 0.2000008, 0.155496791, 0.113224399, 0.0753033384, 0.043635129, 0.0198077472,
        0.00501599751, 1.6e-06,
    ];

    /// `torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=20)`, PyTorch 2.10.
    #[test]
    fn one_cycle_is_pytorchs() {
        let expected = ONE_CYCLE;
        for (step, expected) in expected.into_iter().enumerate() {
            let found = f64::from(Schedule::OneCycle.lr(0.4, step as u64, 20));
            assert!(
                (found - expected).abs() < 1e-6,
                "{step}: {found}, {expected}"
            );
        }
    }

    #[test]
    fn a_warm_up_climbs_on_a_line_and_the_schedule_has_what_is_left() {
        let lr = |step| Schedule::Cosine.lr_after(4, 0.4, step, 104);
        let found: Vec<f32> = (0..5).map(lr).collect();
        assert_eq!(found, [0.1, 0.2, 0.3, 0.4, 0.4]);
        assert!((lr(54) - 0.2).abs() < 1e-7);
        assert_eq!(
            Schedule::Cosine.lr_after(0, 0.4, 7, 100),
            Schedule::Cosine.lr(0.4, 7, 100)
        );
        // Nothing is left: it only climbs.
        assert_eq!(Schedule::Constant.lr_after(10, 1.0, 4, 5), 0.5);
    }
}
