//! What was measured, beside what was aimed at.

use std::{fmt, fs, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};

/// All figures of a run, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
    /// How it came about.
    note: String,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    Below(f64),
    Exactly(f64),
}

impl Goal {
    fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Below(limit) => value < limit,
            Self::Exactly(wanted) => (value - wanted).abs() < 0.5,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::Exactly(wanted) => write!(f, "{wanted}"),
        }
    }
}

impl Figures {
    /// Adds a figure, and tells it.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<Goal>,
        note: impl Into<String>,
    ) {
        let figure = Figure {
            what: what.into(),
            value,
            unit,
            goal,
            note: note.into(),
        };
        println!("  {}: {}  {}", figure.what, figure.amount(), figure.note);
        self.0.push(figure);
    }

    /// How many goals are missed.
    pub(crate) fn missed(&self) -> usize {
        self.0.iter().filter(|figure| figure.missed()).count()
    }

    /// Writes them as JSON.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let figures: Vec<Value> = self.0.iter().map(Figure::to_json).collect();
        let text = serde_json::to_string_pretty(&json!({ "figures": figures }))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Figure {
    fn missed(&self) -> bool {
        self.goal.is_some_and(|goal| !goal.met_by(self.value))
    }

    fn amount(&self) -> String {
        let digits = match self.unit {
            "" => 2,
            "s" => 3,
            "MiB" | "ms" => 1,
            _ => 0,
        };
        format!("{:.digits$} {}", self.value, self.unit)
            .trim_end()
            .to_owned()
    }

    fn to_json(&self) -> Value {
        let goal = self.goal.map(|goal| goal.to_string());
        let met = self.goal.map(|_| !self.missed());
        json!({
            "what": self.what, "value": self.value, "unit": self.unit,
            "goal": goal, "met": met, "note": self.note,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["", "measured", "goal", "", ""].map(str::to_owned)];
        rows.extend(self.0.iter().map(|figure| {
            let verdict = match figure.goal {
                None => "",
                Some(_) if figure.missed() => "MISSED",
                Some(_) => "met",
            };
            let goal = figure.goal.map(|goal| goal.to_string()).unwrap_or_default();
            [&figure.what, &figure.amount(), &goal, verdict, &figure.note].map(str::to_owned)
        }));
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let (first, second, third) = (width(0), width(1), width(2));
        for [what, amount, goal, verdict, note] in &rows {
            let row = format!("{what:first$}  {amount:>second$}  {goal:>third$}  {verdict:6}  {note}");
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark fit 52 bits")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// The value below which the share `percent` of all values lies; `None` without values.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_missed_goal_is_counted_and_shown() {
        let mut figures = Figures::default();
        figures.add("requests", 1.0, "requests", Some(Goal::Exactly(0.0)), "");
        figures.add("ratio", 0.7, "", Some(Goal::AtLeast(0.7)), "");
        assert_eq!(figures.missed(), 1);
        assert!(figures.to_string().contains("MISSED"));
    }
}
