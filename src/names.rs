//! Names that a request chose, and the known ones that it may have meant.

/// Names that an unknown one is compared with at most, and how long that one may be: the request chose it.
const MOST_NAMES: usize = 1000;
const LONGEST_NAME: usize = 100;

/// The `most` of these names that are most like `name`; the nearest first.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    if name.len() > LONGEST_NAME {
        return Vec::new();
    }
    let length = name.chars().count();
    let distance = |known: &str| match known.eq_ignore_ascii_case(name) {
        true => 0,
        false => strsim::osa_distance(name, known),
    };
    // The difference of two lengths is a lower bound of the distance, and costs next to nothing.
    let is_possible = |known: &&str| known.chars().count().abs_diff(length) <= length / 3;
    let possible = names.into_iter().take(MOST_NAMES).filter(is_possible);
    let mut near: Vec<_> = possible.map(|known| (distance(known), known)).collect();
    near.retain(|(distance, _)| *distance <= length / 3);
    near.sort_unstable();
    near.into_iter().take(most).map(|(_, known)| known).collect()
}

/// A name as messages show it: quoted, and cut when it is long.
pub fn quoted(name: &str) -> String {
    match end(name) {
        Some(end) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// A name in a list of a message: cut when it is long.
pub fn shortened(name: &str) -> String {
    match end(name) {
        Some(end) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The end of what is quoted of a long name.
fn end(name: &str) -> Option<usize> {
    name.char_indices().nth(64).map(|(end, _)| end)
}

/// Some names of `count`, and how many there are beside them.
pub fn list(some: &[String], count: usize) -> String {
    let named = some.join(", ");
    match count - some.len() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_the_far_not_at_all() {
        let known = ["beer", "wine-2", "wine", "vine", "grüße"];
        assert_eq!(nearest("Wine", known, 3), ["wine", "vine"]);
        assert_eq!(nearest("wine-3", known, 3), ["wine-2", "wine"]);
        assert_eq!(nearest("wine-3", known, 1), ["wine-2"]);
        assert_eq!(nearest("grusse", known, 3), ["grüße"; 0]);
        assert_eq!(nearest("grüsse", known, 3), ["grüße"]);
        assert!(nearest("champagne", known, 3).is_empty());
        assert!(nearest(&"wine".repeat(26), known, 3).is_empty());
    }

    #[test]
    fn a_list_tells_how_many_it_leaves_out() {
        let some = ["a".to_owned(), "b".to_owned()];
        assert_eq!(list(&some, 2), "a, b");
        assert_eq!(list(&some, 2000), "a, b and 1998 more");
    }
}
