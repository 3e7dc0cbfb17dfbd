//! The values in force, as YAML that reads back as the same configuration. Comments name their origins.

use std::fmt;

use super::keys::Key;
use super::problems::Origin;

/// Every key in the order of the table, with its value.
#[derive(Debug, Default)]
pub struct Effective(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: &'static Key,
    /// The value, or the items of a list.
    texts: Vec<String>,
    origin: Origin,
}

impl Effective {
    pub(super) fn add(&mut self, key: &'static Key, texts: Vec<String>, origin: Origin) {
        self.0.push(Entry { key, texts, origin });
    }

    /// Replaces a short name by the full one.
    pub(super) fn complete(&mut self, path: &str, full: &str) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.key.path == path) {
            entry.texts = vec![full.to_owned()];
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut current = "";
        for Entry { key, texts, origin } in &self.0 {
            let (section, name) = key.path.split_once('.').unwrap_or(("", key.path));
            if section != current {
                writeln!(f, "{section}:")?;
                current = section;
            }
            let indent = if section.is_empty() { "" } else { "  " };
            let value = match key.kind.is_list() {
                true => format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ")),
                false => quote(&texts.concat()),
            };
            write!(f, "{indent}{name}: {value}")?;
            match origin {
                Origin::Default => writeln!(f)?,
                // Escaped: a line break in a file's name would end the comment.
                origin => writeln!(f, " # {}", origin.to_string().escape_debug())?,
            }
        }
        Ok(())
    }
}

/// Quotes a value, unless every YAML parser reads it as the same string or whole number.
fn quote(text: &str) -> String {
    let is_plain_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._-+:~".contains(c);
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    let is_plain_text = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(is_safe)
        && text.parse::<f64>().is_err()
        && !text.starts_with("0x")
        && !text.starts_with("0o")
        && !is_word;
    if is_plain_number || is_plain_text {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string() // a JSON string is a YAML string
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn only_safe_values_are_not_quoted() {
        for plain in ["demo", "128MiB", "0ms", "10000", "127.0.0.1:8080", "gs://models/models", "-5"] {
            assert_eq!(quote(plain), plain);
        }
        for quoted in
            ["", "true", "No", "1.10", "1e5", "007", "0x10", "~", "a b", "a: b", "a:", "#a", "*a", "inf"]
        {
            assert_eq!(quote(quoted), format!("\"{quoted}\""));
        }
        assert_eq!(quote("a\"b\n"), r#""a\"b\n""#);
    }
}
