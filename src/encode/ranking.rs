//! Rankings: the best scores of each innermost list of an output.

use crate::tensor::{Elements, Output, View};

/// Positions of the `top` best scores that reach `threshold`. NaN, which has no rank, comes first, so that it
/// is seen.
pub(super) fn ranking(scores: View<'_>, top: usize, threshold: f64) -> Vec<usize> {
    let mut all: Vec<(usize, f64)> = scores.to_f64().into_iter().enumerate().collect();
    all.retain(|(_, score)| *score >= threshold || score.is_nan());
    // The sign of a NaN has no meaning, but `total_cmp` orders by it.
    all.iter_mut().filter(|(_, score)| score.is_nan()).for_each(|(_, score)| *score = f64::NAN);
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(top);
    all.into_iter().map(|(index, _)| index).collect()
}

/// A ranking as tensors: their shape, the scores, and the labels or positions. Shorter rows are padded with
/// score 0 and an empty label (or position -1).
pub(super) fn ranked_tensors(
    output: &Output<'_>,
    labels: Option<&[String]>,
    top: usize,
    threshold: f64,
) -> (Vec<usize>, Elements, Elements) {
    let (width, outer) = output.shape.split_last().map_or((1, &[][..]), |(width, outer)| (*width, outer));
    let rows = output.elements.len() / width.max(1);
    let rankings: Vec<Vec<usize>> = (0..rows)
        .map(|row| ranking(output.elements.slice(row * width..(row + 1) * width), top, threshold))
        .collect();
    let longest = rankings.iter().map(Vec::len).max().unwrap_or(0);
    let all = output.elements.to_f64();
    let (mut scores, mut names, mut indices) = (Vec::new(), Vec::new(), Vec::new());
    for (row, ranking) in rankings.iter().enumerate() {
        for place in 0..longest {
            let index = ranking.get(place);
            scores.push(index.map_or(0.0, |index| all[row * width + index]));
            let label = index.and_then(|index| labels.and_then(|labels| labels.get(*index)));
            names.push(label.cloned().unwrap_or_default());
            indices.push(index.map_or(-1, |index| i64::try_from(*index).unwrap_or(i64::MAX)));
        }
    }
    let scores = match output.elements {
        View::F64(_) => Elements::F64(scores),
        _ => Elements::F32(scores.into_iter().map(|score| score as f32).collect()),
    };
    let places = if labels.is_some() { Elements::String(names) } else { Elements::I64(indices) };
    ([outer, &[longest]].concat(), scores, places)
}
