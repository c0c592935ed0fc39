//! Text as people write it, made comparable.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Folds case and accents away and joins white space, so that `Zoë  Ångström` is found by `zoe angstrom`.
#[must_use]
pub fn fold(text: &str) -> String {
    let seen = |letter: &char| !is_combining_mark(*letter) && !is_joiner(*letter);
    let mut folded = String::with_capacity(text.len());
    for letter in text.nfkd().filter(seen).flat_map(char::to_lowercase) {
        match plain(letter) {
            Some(plain) => folded.push_str(plain),
            None => folded.push(letter),
        }
    }
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is written for a letter by whoever does not have it on the keyboard, where Unicode does not take it apart.
fn plain(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ł' => "l",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ı' => "i",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ς' => "σ",
        _ => return None,
    })
}

/// Whether the text has a letter that is not one: a control, or a mark that turns the direction of what follows. Such
/// letters break logs and lists, disguise addresses, and PostgreSQL does not keep the first of them. Joiners are not among
/// them: Persian and many scripts of India are not written without, nor are families of emoji.
#[must_use]
pub fn has_control(text: &str) -> bool {
    text.chars().any(|letter| {
        letter.is_control()
            || matches!(letter, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
    })
}

/// Whether a letter that nobody sees joins its neighbours or keeps them apart.
#[must_use]
pub fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200C}' | '\u{200D}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_white_space_are_folded_away() {
        assert_eq!(fold("  Zoë \t ÅNGSTRÖM "), "zoe angstrom");
        assert_eq!(fold("ﬁancé İstanbul"), "fiance istanbul");
        assert_eq!(fold("Łukasz Søren WEIẞ Straße Ægir"), "lukasz soren weiss strasse aegir");
        assert_eq!(fold("ΟΔΥΣΣΕΥΣ"), fold("Οδυσσεύς"));
        assert_eq!(fold("نرم\u{200C}افزار"), fold("نرمافزار"));
    }

    #[test]
    fn letters_that_are_none_are_seen() {
        assert!(has_control("a\0b") && has_control("a\u{202E}b") && has_control("a\nb"));
        assert!(!has_control("Zoë Ångström 日本") && !has_control("نرم\u{200C}افزار 👩\u{200D}💻"));
    }
}
