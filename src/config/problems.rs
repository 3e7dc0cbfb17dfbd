//! The problems of a configuration, all at once, each with its key, value, origin and remedy.

use std::fmt;
use std::path::PathBuf;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No layer gives the value.
    Default,
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// An option of the command line, with its hyphens.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("not given"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Option(name) => write!(f, "option {name}"),
        }
    }
}

/// One problem to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key; `None` for a problem of a whole file.
    pub key: Option<String>,
    /// The value as given; `None` for a missing or unknown key, and for a problem of a whole file.
    pub value: Option<String>,
    pub origin: Origin,
    /// The problem in lower case, without a full stop, and without the key, the value and the origin.
    pub message: String,
    /// The remedy.
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

/// All problems; never empty.
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
