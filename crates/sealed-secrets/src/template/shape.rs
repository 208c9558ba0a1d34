//! Templates that the parser must not even see: it calls itself for every level of nesting, and the stack is not endless.

/// Parentheses within parentheses; the parser bounds blocks within blocks itself.
const MAX_NESTED: usize = 64;
/// Every `else if` is a block within the one before.
const MAX_ELSES: usize = 100;

/// Whether no action of `source` nests deeper than anybody writes by hand.
pub(super) fn is_flat(source: &str) -> bool {
    source.matches("else").count() <= MAX_ELSES
        && source
            .split("{{")
            .skip(1)
            .all(|action| nesting(action) <= MAX_NESTED)
}

/// The deepest nesting of parentheses in an action and what follows it; those in quotes are text.
fn nesting(action: &str) -> usize {
    let (mut depth, mut deepest, mut quote) = (0_usize, 0, None);
    let mut characters = action.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some('"' | '\''), '\\') => drop(characters.next()),
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, '(') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, ')') => depth = depth.saturating_sub(1),
            (None, '}') if depth == 0 => break,
            (Some(_) | None, _) => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_are_counted_where_they_nest() {
        assert_eq!(nesting(" (a (b) (c (d))) }} ((((("), 3);
        assert_eq!(nesting(" \"((\\\"((\" `((` '(' (a) }}"), 1);
        assert!(is_flat(&"{{ (a) }} ((".repeat(1000)));
        assert!(!is_flat(&format!("x {{{{ {}a", "(".repeat(65))));
        assert!(!is_flat(&"{{ else if 1 }}".repeat(101)));
    }
}
