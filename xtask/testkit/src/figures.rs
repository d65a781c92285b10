//! The figures of a test: the test prints them, `cargo xtask verify` reads them.

use std::fmt;

/// What a line with figures begins with.
const MARK: &str = "figures";

/// Named numbers, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    test: String,
    numbers: Vec<(String, u64)>,
}

impl Figures {
    /// The figures of the test with that name.
    pub fn of(test: &str) -> Self {
        Self { test: test.to_owned(), numbers: Vec::new() }
    }

    /// Adds one. Names are words, without a semicolon.
    #[must_use]
    pub fn with(mut self, name: &str, number: u64) -> Self {
        self.numbers.push((name.to_owned(), number));
        self
    }

    /// The name of the test.
    pub fn test(&self) -> &str {
        &self.test
    }

    /// Names and numbers.
    pub fn numbers(&self) -> &[(String, u64)] {
        &self.numbers
    }

    /// The number with a name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.numbers.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }

    /// Reads a line that [`fmt::Display`] has written; `None` for any other line. The test runner may have written
    /// the name of the test in front of it.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(&format!("{MARK} of "))?;
        let (test, rest) = rest.split_once(": ")?;
        let numbers = rest.split("; ").map(|figure| {
            let (number, name) = figure.split_once(' ')?;
            Some((name.to_owned(), number.parse().ok()?))
        });
        Some(Self { test: test.to_owned(), numbers: numbers.collect::<Option<_>>()? })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> =
            self.numbers.iter().map(|(name, number)| format!("{number} {name}")).collect();
        write!(f, "{MARK} of {}: {}", self.test, numbers.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read() {
        let figures = Figures::of("parsers").with("frames", 7).with("of a kind, or two", 0);
        assert_eq!(Figures::parse(&format!("test x ... {figures}")), Some(figures.clone()));
        assert_eq!(figures.get("frames"), Some(7));
        assert_eq!(Figures::parse("test result: ok. 4 passed; 0 failed"), None);
    }
}
