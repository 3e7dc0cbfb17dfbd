//! Subscription filters: <https://cloud.google.com/pubsub/docs/subscription-message-filter#filtering_syntax>.

use std::collections::HashMap;

use tonic::Status;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Has(String),
    Equals(String, String),
    HasPrefix(String, String),
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

impl Filter {
    /// `None` for the empty filter.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Status> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0 };
        let filter = parser.expression()?;
        if parser.next < parser.tokens.len() {
            return Err(invalid("unexpected text behind the expression"));
        }
        Ok(Some(filter))
    }

    pub(super) fn matches(&self, attributes: &HashMap<String, String>) -> bool {
        match self {
            Self::Has(key) => attributes.contains_key(key),
            Self::Equals(key, value) => attributes.get(key) == Some(value),
            Self::HasPrefix(key, prefix) => {
                attributes.get(key).is_some_and(|v| v.starts_with(prefix.as_str()))
            }
            Self::Not(inner) => !inner.matches(attributes),
            Self::All(parts) => parts.iter().all(|part| part.matches(attributes)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(attributes)),
        }
    }
}

fn invalid(why: &str) -> Status {
    Status::invalid_argument(format!("Invalid filter: {why}."))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

fn tokens(text: &str) -> Result<Vec<Token>, Status> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = ["!=", "=", "(", ")", ",", ":", ".", "-"].into_iter().find(|sign| rest.starts_with(sign));
        if let Some(sign) = sign {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '"' {
            let end = rest[1..].find('"').ok_or_else(|| invalid("a string is not closed"))?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            rest = &rest[end + 2..];
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            if end == 0 {
                return Err(invalid("unexpected character"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn take(&mut self, token: &Token) -> bool {
        let found = self.tokens.get(self.next) == Some(token);
        self.next += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.take(&Token::Word(word.to_owned()))
    }

    fn expression(&mut self) -> Result<Filter, Status> {
        let mut parts = vec![self.term()?];
        let joins = ["AND", "OR"];
        let Some(join) = joins.into_iter().find(|join| self.word(join)) else {
            return Ok(parts.remove(0));
        };
        loop {
            parts.push(self.term()?);
            if !self.word(join) {
                break;
            }
        }
        if joins.into_iter().any(|join| self.word(join)) {
            return Err(invalid("AND and OR need parentheses to be mixed"));
        }
        Ok(if join == "AND" { Filter::All(parts) } else { Filter::Any(parts) })
    }

    fn term(&mut self) -> Result<Filter, Status> {
        if self.word("NOT") || self.take(&Token::Sign("-")) {
            return Ok(Filter::Not(Box::new(self.term()?)));
        }
        if self.take(&Token::Sign("(")) {
            let inner = self.expression()?;
            return if self.take(&Token::Sign(")")) { Ok(inner) } else { Err(invalid("expected )")) };
        }
        if self.word("hasPrefix") {
            self.expect("(")?;
            let key = self.attribute()?;
            self.expect(",")?;
            let prefix = self.text()?;
            self.expect(")")?;
            return Ok(Filter::HasPrefix(key, prefix));
        }
        if !self.word("attributes") {
            return Err(invalid("expected attributes"));
        }
        if self.take(&Token::Sign(":")) {
            return Ok(Filter::Has(self.text()?));
        }
        self.next -= 1;
        let key = self.attribute()?;
        if self.take(&Token::Sign("=")) {
            return Ok(Filter::Equals(key, self.text()?));
        }
        self.expect("!=")?;
        Ok(Filter::Not(Box::new(Filter::Equals(key, self.text()?))))
    }

    fn attribute(&mut self) -> Result<String, Status> {
        if !self.word("attributes") {
            return Err(invalid("expected attributes"));
        }
        self.expect(".")?;
        self.text()
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Status> {
        if self.take(&Token::Sign(sign)) { Ok(()) } else { Err(invalid(&format!("expected {sign}"))) }
    }

    fn text(&mut self) -> Result<String, Status> {
        let text = match self.tokens.get(self.next) {
            Some(Token::Text(text) | Token::Word(text)) => text.clone(),
            _ => return Err(invalid("expected a name or a string")),
        };
        self.next += 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_documented() {
        let attributes =
            HashMap::from([("model".to_owned(), "wine".to_owned()), ("x".to_owned(), String::new())]);
        for (filter, expected) in [
            ("attributes:model", true),
            ("attributes:other", false),
            ("attributes.model = \"wine\"", true),
            ("attributes.model != \"wine\"", false),
            ("hasPrefix(attributes.model, \"wi\")", true),
            ("NOT attributes:other AND attributes:x", true),
            ("(attributes:other OR attributes:x) AND -attributes.model = \"beer\"", true),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().unwrap().matches(&attributes), expected, "{filter}");
        }
        for bad in [
            "model = 1",
            "attributes:a AND attributes:b OR attributes:c",
            "attributes.a",
            "attributes.a = \"x",
        ] {
            assert_eq!(Filter::parse(bad).unwrap_err().code(), tonic::Code::InvalidArgument, "{bad}");
        }
    }
}
