//! PTQ or QAT: what the interval of their difference says.

use super::{MethodResults, Seed};
use crate::statistics::{Difference, bootstrap_difference};
use crate::{Config, plural};
use lowbit::WeightBits;
use serde::{Deserialize, Serialize};

/// Differences within this many points count as none.
pub const TIE_POINTS: f64 = 0.5;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredVerdict")]
pub struct Verdict {
    /// PTQ − QAT in points.
    pub accuracy_ptq_minus_qat_points: f64,
    /// Its 95 % interval: paired bootstrap over seeds and test images. None where there is no verdict.
    pub accuracy_ptq_minus_qat_points_interval: Option<[f64; 2]>,
    /// PTQ − QAT in seconds of training, quantization counted.
    pub time_ptq_minus_qat_seconds: f64,
    /// Which of the two is better.
    pub winner: Winner,
    /// Why it is a tie, or by how much one wins.
    pub reason: String,
    /// For a person who must decide.
    pub advice: String,
}

/// A verdict as files hold it: version 0.1 called the accuracies otherwise, and had the time as QAT − PTQ.
#[derive(Deserialize)]
struct StoredVerdict {
    #[serde(alias = "accuracy_difference")]
    accuracy_ptq_minus_qat_points: f64,
    #[serde(alias = "accuracy_difference_interval")]
    accuracy_ptq_minus_qat_points_interval: Option<[f64; 2]>,
    time_ptq_minus_qat_seconds: Option<f64>,
    time_difference: Option<f64>,
    winner: Winner,
    reason: String,
    advice: String,
}

impl From<StoredVerdict> for Verdict {
    fn from(stored: StoredVerdict) -> Self {
        let time = stored.time_ptq_minus_qat_seconds;
        let time = time.or(stored.time_difference.map(|time| -time));
        Self {
            accuracy_ptq_minus_qat_points: stored.accuracy_ptq_minus_qat_points,
            accuracy_ptq_minus_qat_points_interval: stored.accuracy_ptq_minus_qat_points_interval,
            time_ptq_minus_qat_seconds: time.unwrap_or(f64::NAN),
            winner: stored.winner,
            reason: stored.reason,
            advice: stored.advice,
        }
    }
}

/// Which of the two is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Winner {
    /// Quantization-aware training.
    #[serde(rename = "QAT wins")]
    Qat,
    /// Quantization after training.
    #[serde(rename = "PTQ wins")]
    Ptq,
    /// Neither, as far as can be told.
    #[serde(rename = "tie")]
    Tie,
    /// The f32 models know nothing that quantization could cost.
    #[serde(rename = "no verdict")]
    None,
}

impl std::fmt::Display for Winner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Qat => "QAT wins",
            Self::Ptq => "PTQ wins",
            Self::Tie => "tie",
            Self::None => "no verdict",
        })
    }
}

impl Verdict {
    /// No verdict, and what to try.
    pub(super) fn none(ptq: &MethodResults, qat: &MethodResults, advice: String) -> Self {
        Self {
            accuracy_ptq_minus_qat_points: ptq.final_test_accuracy_percent
                - qat.final_test_accuracy_percent,
            accuracy_ptq_minus_qat_points_interval: None,
            time_ptq_minus_qat_seconds: ptq.training_time_seconds - qat.training_time_seconds,
            winner: Winner::None,
            reason: "the FP32 model is not shown to have learned".into(),
            advice,
        }
    }
}

/// Compares both methods over seeds and test images.
pub(super) fn verdict(
    config: &Config,
    seeds: &[Seed],
    ptq: &MethodResults,
    qat: &MethodResults,
) -> Verdict {
    let hits = |text: &str| text.bytes().map(|byte| byte == b'1').collect::<Vec<_>>();
    let pairs: Vec<_> = seeds
        .iter()
        .map(|seed| (hits(&seed[1].hits), hits(&seed[2].hits)))
        .collect();
    let points = bootstrap_difference(&pairs, config.run.seed).in_percent();
    let ground = Ground::of(points);
    let time = ptq.training_time_seconds - qat.training_time_seconds;
    let mut reason = ground.to_string();
    if seeds.len() == 1 {
        reason += "; one seed: the noise of training is not covered";
    }
    Verdict {
        accuracy_ptq_minus_qat_points: points.value,
        accuracy_ptq_minus_qat_points_interval: Some([points.low, points.high]),
        time_ptq_minus_qat_seconds: time,
        winner: ground.winner(),
        reason,
        advice: ground.advice(points.value, -time / 60.0, config.widths.bits),
    }
}

/// What the interval of PTQ − QAT says, in points.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ground {
    /// It lies inside of [`TIE_POINTS`].
    Equal,
    /// It holds zero, and more than [`TIE_POINTS`].
    Undecided,
    /// It lies above zero by so many points at least.
    PtqAbove(f64),
    /// It lies below zero by so many points at least.
    QatAbove(f64),
}

impl Ground {
    fn of(points: Difference) -> Self {
        let Difference { low, high, .. } = points;
        if low > -TIE_POINTS && high < TIE_POINTS {
            Self::Equal
        } else if low <= 0.0 && high >= 0.0 {
            Self::Undecided
        } else if low > 0.0 {
            Self::PtqAbove(low)
        } else {
            Self::QatAbove(-high)
        }
    }

    fn winner(self) -> Winner {
        match self {
            Self::Equal | Self::Undecided => Winner::Tie,
            Self::PtqAbove(_) => Winner::Ptq,
            Self::QatAbove(_) => Winner::Qat,
        }
    }

    /// For a person who must decide; `difference` is PTQ − QAT in points, `minutes` the further training of QAT.
    fn advice(self, difference: f64, minutes: f64, bits: WeightBits) -> String {
        match self {
            Self::QatAbove(_) => format!(
                "Train with quantization: {:.2} points more than quantizing after, for {minutes:+.1} minutes of training.",
                -difference
            ),
            Self::PtqAbove(_) => format!(
                "Quantize after training: {difference:.2} points more than training with quantization, and no second training."
            ),
            Self::Equal => format!(
                "Quantize after training: it is as good at {}, and needs no second training.",
                plural::bits(bits)
            ),
            Self::Undecided => "Not decided: more --seeds narrow the interval. Quantizing after training is the cheaper of the two."
                .into(),
        }
    }
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal => write!(f, "the interval lies inside ±{TIE_POINTS} points"),
            Self::Undecided => f.write_str("the interval contains zero"),
            Self::PtqAbove(points) | Self::QatAbove(points) => {
                write!(f, "by {points:.2} points at least")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(low: f64, high: f64) -> Difference {
        Difference {
            value: (low + high) / 2.0,
            low,
            high,
        }
    }

    #[test]
    fn the_verdict_follows_the_interval() {
        let of = |low, high| Ground::of(points(low, high));
        assert_eq!(of(-0.4, 0.4), Ground::Equal);
        assert_eq!(of(0.1, 0.4), Ground::Equal);
        assert_eq!(of(-0.4, 0.9), Ground::Undecided);
        assert_eq!(of(-0.5, 0.4), Ground::Undecided);
        assert_eq!(of(-0.4, 0.5), Ground::Undecided);
        assert_eq!(of(0.0, 0.9), Ground::Undecided);
        assert_eq!(of(-0.9, 0.0), Ground::Undecided);
        assert_eq!(of(0.6, 1.2), Ground::PtqAbove(0.6));
        assert_eq!(of(-9.0, -4.0), Ground::QatAbove(4.0));
        let winners = [(0.1, 0.4), (-0.4, 0.9), (0.6, 1.2), (-9.0, -4.0)]
            .map(|(low, high)| of(low, high).winner());
        let expected = [Winner::Tie, Winner::Tie, Winner::Ptq, Winner::Qat];
        assert_eq!(winners, expected);
    }

    #[test]
    fn reason_and_advice_name_the_numbers() {
        assert_eq!(Ground::QatAbove(4.0).to_string(), "by 4.00 points at least");
        assert!(Ground::Equal.to_string().contains("inside ±0.5"));
        let advice = Ground::QatAbove(4.0).advice(-6.5, 2.0, WeightBits::B4);
        assert!(
            advice.contains("6.50 points more") && advice.contains("+2.0 minutes"),
            "{advice}"
        );
        let advice = Ground::PtqAbove(0.6).advice(0.9, 2.0, WeightBits::B4);
        assert!(
            advice.starts_with("Quantize after training: 0.90"),
            "{advice}"
        );
        assert!(
            Ground::Equal
                .advice(0.0, 0.0, WeightBits::B4)
                .contains("4 bits")
        );
        assert!(
            Ground::Undecided
                .advice(0.0, 0.0, WeightBits::B4)
                .contains("--seeds")
        );
    }

    #[test]
    fn both_differences_of_a_verdict_have_one_sign_and_version_0_1_is_turned_round() {
        let old = serde_json::json!({
            "accuracy_difference": -2.0, "accuracy_difference_interval": [-3.0, -1.0], "time_difference": 40.0,
            "winner": "QAT wins", "reason": "", "advice": "",
        });
        let verdict: Verdict = serde_json::from_value(old).unwrap();
        assert_eq!(verdict.accuracy_ptq_minus_qat_points, -2.0);
        assert_eq!(verdict.time_ptq_minus_qat_seconds, -40.0);
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["time_ptq_minus_qat_seconds"], -40.0);
        assert_eq!(serde_json::from_value::<Verdict>(json).unwrap(), verdict);
    }
}
