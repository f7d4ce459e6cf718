//! Fractions as ffprobe prints them. Pure.

use splitreel_core::Rational;

/// `30000/1001` or `16:9`; `None` for zero denominators and text that is not a fraction.
pub(crate) fn fraction(text: &str, separator: char) -> Option<Rational> {
    let (num, den) = text.split_once(separator)?;
    Rational::new(num.trim().parse().ok()?, den.trim().parse().ok()?)
}
