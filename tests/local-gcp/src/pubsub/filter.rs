//! Subscription filters: the language of <https://cloud.google.com/pubsub/docs/subscription-message-filter>.
//!
//! `attributes:x`, `attributes.x = "y"`, `attributes.x != "y"`, `hasPrefix(attributes.x, "y")`, combined by
//! `AND`, `OR`, `NOT` / `-` and parentheses. As in the real service `AND` and `OR` cannot be mixed without
//! parentheses.

use std::collections::HashMap;

/// The real service's limit.
const MAX_BYTES: usize = 256;

/// A filter that can be asked about a message's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Has(String),
    Equals(String, String),
    Differs(String, String),
    HasPrefix(String, String),
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Symbol(&'static str),
}

impl Filter {
    /// Reads a filter; an empty text is no filter. The error says what was expected and what came.
    pub(crate) fn parse(text: &str) -> Result<Option<Filter>, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("a filter has at most {MAX_BYTES} bytes, this one has {}", text.len()));
        }
        let mut tokens = Tokens { all: tokenize(text)?, next: 0 };
        if tokens.all.is_empty() {
            return Ok(None);
        }
        let filter = tokens.expression()?;
        match tokens.peek() {
            None => Ok(Some(filter)),
            Some(token) => Err(format!("expected the end of the filter, AND or OR, not {token:?}")),
        }
    }

    /// True when a message with these attributes is delivered.
    pub(crate) fn matches(&self, attributes: &HashMap<String, String>) -> bool {
        match self {
            Filter::Has(key) => attributes.contains_key(key),
            Filter::Equals(key, value) => attributes.get(key) == Some(value),
            // A message without the attribute matches too, as documented.
            Filter::Differs(key, value) => attributes.get(key) != Some(value),
            Filter::HasPrefix(key, prefix) => {
                attributes.get(key).is_some_and(|value| value.starts_with(prefix))
            }
            Filter::Not(filter) => !filter.matches(attributes),
            Filter::All(filters) => filters.iter().all(|filter| filter.matches(attributes)),
            Filter::Any(filters) => filters.iter().any(|filter| filter.matches(attributes)),
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let symbol = match c {
            c if c.is_whitespace() => continue,
            '(' => "(",
            ')' => ")",
            ',' => ",",
            '.' => ".",
            ':' => ":",
            '=' => "=",
            '-' => "-",
            '!' if chars.next_if_eq(&'=').is_some() => "!=",
            '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => quoted.extend(chars.next()),
                        Some(other) => quoted.push(other),
                        None => return Err("a quoted text in the filter does not end".to_owned()),
                    }
                }
                tokens.push(Token::Text(quoted));
                continue;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) =
                    chars.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '-'))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
                continue;
            }
            other => return Err(format!("unexpected character {other:?} in the filter")),
        };
        tokens.push(Token::Symbol(symbol));
    }
    Ok(tokens)
}

struct Tokens {
    all: Vec<Token>,
    next: usize,
}

impl Tokens {
    fn peek(&self) -> Option<&Token> {
        self.all.get(self.next)
    }

    fn next_if(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.next_if(&Token::Symbol(symbol)) {
            return Ok(());
        }
        Err(format!("expected {symbol:?} in the filter, not {:?}", self.peek()))
    }

    fn expression(&mut self) -> Result<Filter, String> {
        let mut filters = vec![self.term()?];
        let (and, or) = (Token::Word("AND".to_owned()), Token::Word("OR".to_owned()));
        let is_and = self.peek() == Some(&and);
        let (joiner, other) = if is_and { (and, or) } else { (or, and) };
        while self.next_if(&joiner) {
            filters.push(self.term()?);
        }
        if self.peek() == Some(&other) {
            return Err("a filter that mixes AND and OR needs parentheses".to_owned());
        }
        Ok(match (filters.len(), is_and) {
            (1, _) => filters.remove(0),
            (_, true) => Filter::All(filters),
            (_, false) => Filter::Any(filters),
        })
    }

    fn term(&mut self) -> Result<Filter, String> {
        if self.next_if(&Token::Word("NOT".to_owned())) || self.next_if(&Token::Symbol("-")) {
            return Ok(Filter::Not(Box::new(self.term()?)));
        }
        if self.next_if(&Token::Symbol("(")) {
            let filter = self.expression()?;
            self.expect(")")?;
            return Ok(filter);
        }
        if self.next_if(&Token::Word("hasPrefix".to_owned())) {
            self.expect("(")?;
            self.attributes()?;
            self.expect(".")?;
            let key = self.key()?;
            self.expect(",")?;
            let prefix = self.text()?;
            self.expect(")")?;
            return Ok(Filter::HasPrefix(key, prefix));
        }
        self.attributes()?;
        if self.next_if(&Token::Symbol(":")) {
            return Ok(Filter::Has(self.key()?));
        }
        self.expect(".")?;
        let key = self.key()?;
        if self.next_if(&Token::Symbol("!=")) {
            return Ok(Filter::Differs(key, self.text()?));
        }
        self.expect("=")?;
        Ok(Filter::Equals(key, self.text()?))
    }

    fn attributes(&mut self) -> Result<(), String> {
        if self.next_if(&Token::Word("attributes".to_owned())) {
            return Ok(());
        }
        Err(format!("expected attributes, hasPrefix, NOT or ( in the filter, not {:?}", self.peek()))
    }

    fn key(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            Some(Token::Word(key) | Token::Text(key)) => {
                self.next += 1;
                Ok(key)
            }
            other => Err(format!("expected an attribute's key in the filter, not {other:?}")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.next += 1;
                Ok(text)
            }
            other => Err(format!("expected a quoted text in the filter, not {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, attributes: &[(&str, &str)]) -> bool {
        let attributes = attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Filter::parse(filter).unwrap().unwrap().matches(&attributes)
    }

    #[test]
    fn accepts_what_the_documentation_shows() {
        assert!(matches("attributes:iana", &[("iana", "")]));
        assert!(!matches("attributes:iana", &[]));
        assert!(matches(r#"attributes.name = "com""#, &[("name", "com")]));
        assert!(matches(r#"attributes.name != "com""#, &[]));
        assert!(matches(r#"hasPrefix(attributes.name, "co")"#, &[("name", "com")]));
        assert!(!matches(r#"hasPrefix(attributes.name, "co")"#, &[]));
        assert!(matches(r#"attributes:a AND NOT attributes:b"#, &[("a", "")]));
        assert!(matches(r#"attributes:a AND (attributes:b OR -attributes:c)"#, &[("a", "")]));
        assert!(matches(
            r#"attributes."content-type" = "text \"csv\"""#,
            &[("content-type", "text \"csv\"")]
        ));
        assert_eq!(Filter::parse("  "), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_filter() {
        for wrong in [
            "attributes.a = b",
            "attributes:a AND attributes:b OR attributes:c",
            "data = \"x\"",
            "attributes.a",
            "(attributes:a",
            "attributes:a attributes:b",
            "attributes.a = \"x",
            "hasPrefix(attributes.a)",
        ] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Filter::parse(&format!("attributes.a = \"{}\"", "x".repeat(256))).is_err());
    }
}
