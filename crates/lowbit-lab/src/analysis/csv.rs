//! The rows as comma-separated values.

use super::{Analysis, WidthRow};

const HEADER: &str = "bit_width,label,runs,size_mb,compression_ratio,size_reduction_percent,test_accuracy_percent,\
     test_accuracy_percent_low,test_accuracy_percent_high,train_accuracy_percent,overfitting_gap_points,\
     accuracy_delta_points,accuracy_delta_points_low,accuracy_delta_points_high,img_per_s,speedup,training_time_seconds,folder,sweep\n";

impl Analysis {
    /// The rows of all tables as comma-separated values with a header; the last column says which sweep they are of.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(HEADER);
        for table in self.tables() {
            for row in &table.widths {
                text += &fields(row, &table.title).join(",");
                text.push('\n');
            }
        }
        text
    }
}

fn fields(row: &WidthRow, sweep: &str) -> [String; 19] {
    let finite = |x: f64| {
        if x.is_finite() {
            format!("{x:.4}")
        } else {
            String::new()
        }
    };
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    [
        row.bit_width.to_string(),
        quoted(&row.label),
        row.runs.to_string(),
        finite(row.size_mb),
        finite(row.compression_ratio),
        finite(row.size_reduction_percent),
        finite(row.test_accuracy.value),
        finite(row.test_accuracy.low),
        finite(row.test_accuracy.high),
        finite(row.train_accuracy),
        finite(row.overfitting_gap),
        row.accuracy_delta.map_or(String::new(), finite),
        row.accuracy_delta_interval
            .map_or(String::new(), |[low, _]| finite(low)),
        row.accuracy_delta_interval
            .map_or(String::new(), |[_, high]| finite(high)),
        finite(row.img_per_s),
        finite(row.speedup),
        finite(row.training_time_seconds),
        quoted(&row.folder.display().to_string()),
        quoted(sweep),
    ]
}
