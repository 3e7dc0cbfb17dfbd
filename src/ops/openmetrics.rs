//! Reads back the text of `/metrics`, as [`Metrics::render`](crate::ops::metrics::Metrics::render) writes it,
//! so that it can be pushed without being counted twice.
//!
//! The registry offers its values as text or as protobuf, and protobuf would take a protobuf compiler at
//! build time.

/// A counter, a gauge or a histogram, with all its series.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    /// The name without the suffixes of its lines, such as `_total`.
    pub(crate) name: String,
    pub(crate) kind: FamilyKind,
    pub(crate) help: String,
    pub(crate) series: Vec<Series>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

/// Labels and their values, in the order of the text.
pub(crate) type Labels = Vec<(String, String)>;

#[derive(Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// The value of a counter or gauge, the sum of a histogram.
    pub(crate) value: f64,
    /// Upper bounds and cumulative counts; the last bound is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) exemplars: Vec<Exemplar>,
}

/// One observation of a histogram, and its trace.
#[derive(Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// Seconds since 1970.
    pub(crate) at: f64,
}

/// Reads the counters, gauges and histograms of `text`; other families are skipped.
pub(crate) fn read(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = ("", "");
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').unwrap_or((described, ""));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let kind = match kind {
                "counter" => FamilyKind::Counter,
                "gauge" => FamilyKind::Gauge,
                "histogram" => FamilyKind::Histogram,
                _ => continue,
            };
            let help = if help.0 == name { help.1.trim_end_matches('.').to_owned() } else { String::new() };
            families.push(Family { name: name.to_owned(), kind, help, series: Vec::new() });
        } else if !line.starts_with('#')
            && let Some(family) = families.last_mut()
        {
            add_sample(family, line);
        }
    }
    families
}

/// Adds the sample of one line to its family; a line of another form is skipped.
fn add_sample(family: &mut Family, line: &str) -> Option<()> {
    let suffix = line.strip_prefix(family.name.as_str())?;
    let (suffix, rest) = suffix.split_at(suffix.find(['{', ' '])?);
    let (mut labels, rest) = read_labels(rest)?;
    let value: f64 = rest.trim_start().split(' ').next()?.parse().ok()?;
    let bound = match labels.iter().position(|(label, _)| label == "le") {
        Some(place) => Some(labels.remove(place).1.parse::<f64>().ok()?),
        None => None,
    };
    let place = family.series.iter().position(|series| series.labels == labels);
    let place = place.unwrap_or_else(|| {
        family.series.push(Series { labels, value: 0.0, buckets: Vec::new(), exemplars: Vec::new() });
        family.series.len() - 1
    });
    let series = &mut family.series[place];
    match (family.kind, suffix) {
        (FamilyKind::Counter, "_total") | (FamilyKind::Gauge, "") | (FamilyKind::Histogram, "_sum") => {
            series.value = value
        }
        (FamilyKind::Histogram, "_bucket") => {
            series.buckets.push((bound?, value as u64));
            series.exemplars.extend(read_exemplar(rest));
        }
        _ => {}
    }
    Some(())
}

/// Reads the exemplar after a bucket's count: `# {trace_id="…"} value seconds`.
fn read_exemplar(text: &str) -> Option<Exemplar> {
    let (_, text) = text.split_once(" # ")?;
    let (labels, rest) = read_labels(text)?;
    let (value, at) = rest.trim_start().split_once(' ')?;
    Some(Exemplar { labels, value: value.parse().ok()?, at: at.parse().ok()? })
}

/// Reads `{a="1",b="2"}`, or nothing; returns the labels and the rest of the text.
fn read_labels(text: &str) -> Option<(Labels, &str)> {
    let Some(mut rest) = text.strip_prefix('{') else { return Some((Vec::new(), text)) };
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (label, quoted) = rest.split_once("=\"")?;
        let (mut value, mut characters) = (String::new(), quoted.char_indices());
        rest = loop {
            match characters.next()? {
                (end, '"') => break &quoted[end + 1..],
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (_, plain) => value.push(plain),
            }
        };
        labels.push((label.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::ops::metrics;
    use crate::ops::metrics::Metrics;

    #[test]
    fn rendered_metrics_are_read_back() {
        let metrics = Metrics::new();
        let wine = metrics.for_version("wi\"ne\\", "1");
        wine.requests(Ok(())).inc();
        wine.answered(Ok(()), Duration::from_millis(200), None);
        let exemplar = metrics::Exemplar { trace_id: "0123".to_owned(), span_id: "45".to_owned() };
        wine.answered(Ok(()), Duration::from_millis(700), Some(exemplar));
        metrics.messages_in_flight.set(5);
        let families = read(&metrics.render());
        let family = |name: &str| families.iter().find(|family| family.name == name).unwrap();
        let of_wine = |name: &str, more: &[(&str, &str)]| {
            let all: Vec<_> = [("model", "wi\"ne\\"), ("version", "1")].iter().chain(more).collect();
            let wanted = |series: &&Series| {
                series.labels.len() == all.len()
                    && all.iter().all(|(label, value)| {
                        series.labels.contains(&((*label).to_owned(), (*value).to_owned()))
                    })
            };
            family(name).series.iter().find(wanted).unwrap()
        };
        assert_eq!(family("predictd_requests").kind, FamilyKind::Counter);
        assert_eq!(of_wine("predictd_requests", &[("status", "ok")]).value, 3.0);
        assert_eq!(of_wine("predictd_requests", &[("status", "INVALID_INPUT")]).value, 0.0);
        assert_eq!(family("predictd_messages_in_hand").series[0].value, 5.0);
        assert_eq!(family("predictd_messages_in_hand").help, "Requests received and not settled yet");
        let seconds = of_wine("predictd_request_seconds", &[]);
        assert!((seconds.value - 0.9).abs() < 1e-9);
        assert!(seconds.buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert_eq!(seconds.buckets.last().unwrap(), &(f64::INFINITY, 2));
        assert!(seconds.buckets.contains(&(0.25, 1)) && seconds.buckets.contains(&(1.0, 2)));
        let [exemplar] = &seconds.exemplars[..] else { panic!("one was sampled: {seconds:?}") };
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(exemplar.labels, [label("trace_id", "0123"), label("span_id", "45")]);
        assert!(exemplar.value == 0.7 && exemplar.at > 1.6e9, "{exemplar:?}");
    }
}
