//! Names in messages to users: quoted or shortened, and the known names that an unknown one is most like.

/// Limits of the work that an unknown name causes, which a request chose: the names it is compared with, and
/// its length.
const MAX_COMPARED: usize = 1000;
const MAX_COMPARED_LENGTH: usize = 100;

/// Characters of a name that a message shows.
const MAX_SHOWN: usize = 64;

/// The `most` names that are most like `name`, the nearest first.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    if name.len() > MAX_COMPARED_LENGTH {
        return Vec::new();
    }
    let length = name.chars().count();
    let distance = |known: &str| match known.eq_ignore_ascii_case(name) {
        true => 0,
        false => strsim::osa_distance(name, known),
    };
    // The difference of the lengths is a lower bound of the distance, and cheap.
    let is_possible = |known: &&str| known.chars().count().abs_diff(length) <= length / 3;
    let possible = names.into_iter().take(MAX_COMPARED).filter(is_possible);
    let mut near: Vec<_> = possible.map(|known| (distance(known), known)).collect();
    near.retain(|(distance, _)| *distance <= length / 3);
    near.sort_unstable();
    near.into_iter().take(most).map(|(_, known)| known).collect()
}

/// A name in quotes, shortened if it is long.
pub fn quoted(name: &str) -> String {
    match shown_end(name) {
        Some(end) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// A name without quotes, shortened if it is long.
pub fn shortened(name: &str) -> String {
    match shown_end(name) {
        Some(end) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The end of the shown part of a long name.
fn shown_end(name: &str) -> Option<usize> {
    name.char_indices().nth(MAX_SHOWN).map(|(end, _)| end)
}

/// `a, b and 3 more`: some of `count` names.
pub fn list(some: &[String], count: usize) -> String {
    let named = some.join(", ");
    match count - some.len() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `an int64`, `a float32`: the name of a type in a sentence.
pub fn with_article(name: &str) -> String {
    let article = if name.starts_with('i') { "an" } else { "a" };
    format!("{article} {name}")
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
    fn a_list_says_how_many_it_leaves_out() {
        let some = ["a".to_owned(), "b".to_owned()];
        assert_eq!(list(&some, 2), "a, b");
        assert_eq!(list(&some, 2000), "a, b and 1998 more");
    }
}
