//! Several names in few words.

/// The names, with the words that they begin and end with told once: `model.{Q2_K,Q4_K_M}.gguf`.
pub(super) fn listed(names: &[&str]) -> String {
    let [first, others @ ..] = names else { return String::new() };
    if others.is_empty() {
        return (*first).to_owned();
    }
    let is_break = |c: char| !c.is_ascii_alphanumeric();
    let same =
        others.iter().fold(first.len(), |most, other| most.min(in_common(first.chars(), other.chars())));
    let begin = first[..same].rfind(is_break).map_or("", |at| &first[..=at]);
    let rest = || names.iter().map(|name| &name[begin.len()..]);
    let of_first = &first[begin.len()..];
    let same = rest()
        .fold(of_first.len(), |most, other| most.min(in_common(of_first.chars().rev(), other.chars().rev())));
    let end = &of_first[of_first.len() - same..];
    let end = end.find(is_break).map_or("", |at| &end[at..]);
    let middles: Vec<&str> = rest().map(|name| &name[..name.len() - end.len()]).collect();
    format!("{begin}{{{}}}{end}", middles.join(","))
}

/// Bytes of the characters that both begin with.
fn in_common(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn what_names_have_in_common_is_told_once() {
        for (names, expected) in [
            (&["a.gguf"][..], "a.gguf"),
            (&["M-Q2_K.gguf", "M-Q4_0.gguf", "M-UD-Q4_K_XL.gguf"], "M-{Q2_K,Q4_0,UD-Q4_K_XL}.gguf"),
            (&["x", "y"], "{x,y}"),
            (&["a-b-c", "a-b-c"], "a-b-{c,c}"),
            (&["-", "--"], "-{,-}"),
            (&["模型-é.a", "模型-x.a"], "模型-{é,x}.a"),
            (&[], ""),
        ] {
            assert_eq!(listed(names), expected);
        }
    }
}
