//! What is wrong with a configuration: every problem at once, each with its key, value, origin and a way out.

use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("not given"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key; none when a whole file is at fault.
    pub key: Option<String>,
    /// As given; none when the key is missing, unknown or the file is at fault.
    pub value: Option<String>,
    pub origin: Origin,
    /// Lower case, no full stop, without the key, the value and the origin.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(value) = &self.value {
            write!(f, ", got {value:?}")?;
        }
        if self.origin != Origin::Default {
            write!(f, " ({})", self.origin)?;
        }
        write!(f, "\n  try: {}", self.hint)
    }
}

/// All that is wrong; never empty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let (problems, them) = if count == 1 { ("problem", "it") } else { ("problems", "them") };
        writeln!(f, "the configuration has {count} {problems}")?;
        for problem in &self.0 {
            writeln!(f, "\n{problem}")?;
        }
        write!(
            f,
            "\nhint: correct {them}, then run `predictd check` with the same files and variables; \
             config/predictd.yaml explains every key"
        )
    }
}
