//! An error and what caused it: as text, and searched for an error of one type.

use std::{error::Error, fmt, io, iter::successors};

/// More causes than any error has; beyond them an error is its own cause.
const LONGEST: usize = 16;

/// The error and its causes, the outermost first; at most 16.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source()).take(LONGEST)
}

/// The innermost cause; the error itself if it has none.
pub fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}

/// The outermost error of type `T` among the error and its causes, those included that an [`io::Error`] wraps, which
/// it leaves out of its `source`.
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let next = |error: &&'a (dyn Error + 'static)| {
        let wrapped = (*error).downcast_ref().and_then(io::Error::get_ref);
        let wrapped = wrapped.map(|inner| inner as &'a (dyn Error + 'static));
        wrapped.or_else(|| (*error).source())
    };
    successors(Some(error), next)
        .take(LONGEST)
        .find_map(|error| error.downcast_ref())
}

/// `outer: inner: innermost`, on one line if the texts are.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in causes(self.0).enumerate() {
            let separator = if place == 0 { "" } else { ": " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// The same as text.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    Chain(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused;

    fn layers() -> Layer {
        let wrapped = io::Error::other(Layer {
            text: "no session",
            source: Some(Box::new(Refused)),
        });
        Layer {
            text: "no answer",
            source: Some(Box::new(wrapped)),
        }
    }

    #[test]
    fn an_error_is_shown_with_its_causes() {
        assert_eq!(chain(&Refused), "refused");
        assert_eq!(chain(&layers()), "no answer: no session: refused");
        assert_eq!(root(&layers()).to_string(), "refused");
    }

    #[test]
    fn what_an_io_error_wraps_is_found() {
        let inner = find::<Layer>(&layers()).map(|layer| layer.text);
        assert_eq!(inner, Some("no answer"), "the outermost");
        let wrapped = io::Error::other(Layer {
            text: "no session",
            source: None,
        });
        let wrapped = find::<Layer>(&wrapped).map(|layer| layer.text);
        assert_eq!(wrapped, Some("no session"));
        assert!(find::<Refused>(&layers()).is_some());
        assert!(find::<fmt::Error>(&layers()).is_none());
    }
}
