//! Names of files and folders: what may be one, and the one form in which it is kept.

use unicode_normalization::UnicodeNormalization as _;

/// The longest name, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;

/// The longest folder, in bytes.
const LONGEST_FOLDER: usize = 1024;

/// How many folders a folder is below.
const DEEPEST: usize = 32;

/// The folder that all others are below.
pub(crate) const ROOT: &str = "/";

/// A name as it is kept: in NFC.
///
/// # Errors
///
/// What is wrong with it, to follow the name of the field.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let name: String = text.nfc().collect();
    let problem = if name.is_empty() {
        "must not be empty"
    } else if name.len() > LONGEST_NAME {
        return Err(format!("has at most {LONGEST_NAME} bytes"));
    } else if name.contains(char::REPLACEMENT_CHARACTER) {
        "must be valid UTF-8"
    } else if name.contains(is_hidden) {
        "must not have control characters, or others that cannot be seen"
    } else if name.contains(['/', '\\']) || name == "." || name == ".." {
        "must be a name and no path"
    } else if name.trim() != name {
        "must not begin or end with a blank"
    } else {
        return Ok(name);
    };
    Err(problem.to_owned())
}

/// A folder as it is kept: `/`, or the names of folders with `/` before each. Clients may leave out the first one, and add one
/// at the end.
///
/// # Errors
///
/// As [`name`].
pub(crate) fn folder(text: &str) -> Result<String, String> {
    if text.is_empty() || text == ROOT {
        return Ok(ROOT.to_owned());
    }
    let path = text.strip_prefix('/').unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut folder = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        let part =
            name(part).map_err(|problem| format!("is a path of names, each of which {problem}"))?;
        folder.push('/');
        folder.push_str(&part);
    }
    if folder.len() > LONGEST_FOLDER || folder.matches('/').count() > DEEPEST {
        return Err(format!(
            "has at most {LONGEST_FOLDER} bytes and {DEEPEST} names"
        ));
    }
    Ok(folder)
}

/// A name as it is searched: without regard to case.
pub(crate) fn folded(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).collect()
}

/// A pattern for `LIKE … ESCAPE '\'` that finds a text anywhere.
pub(crate) fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in folded(text).chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// Control characters, line separators, and those that turn the direction of a text or have no width. Joiners are parts of words
/// and of emoji.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        )
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_in_one_form_and_is_never_a_path() {
        assert_eq!(name("a\u{308}.txt").as_deref(), Ok("ä.txt"));
        assert_eq!(name(".hidden").as_deref(), Ok(".hidden"));
        let longest = "ä".repeat(127) + "a";
        assert_eq!(name(&longest).as_deref(), Ok(&*longest));
        let too_long = "ä".repeat(128);
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "\u{85}",
            " a",
            "a ",
            "\u{fffd}",
            "invoice\u{202e}fdp.exe",
            "a\u{200b}b",
            "a\u{2028}b",
            "a\u{2029}b",
            "a\u{2066}b",
            &too_long,
        ] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_folder_is_a_path_of_names() {
        for (text, kept) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a/b/", "/a/b"),
            ("a/ä", "/a/ä"),
        ] {
            assert_eq!(folder(text).as_deref(), Ok(kept), "{text:?}");
        }
        let (deep, long) = (
            "a/".repeat(33),
            format!("{0}/{0}/{0}/{0}/{0}", "a".repeat(250)),
        );
        for text in ["//", "a//b", "../a", "a/./b", "a\nb", "a\\b", &deep, &long] {
            assert!(folder(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_search_takes_no_letter_for_a_pattern() {
        assert_eq!(containing("100%_Ä\\"), "%100\\%\\_ä\\\\%");
    }
}
