//! Durations as people write them: `500ms`, `5s`, `1m30s`, `2h`, `3d`, `2w`.
// The SDK includes this file too, so that a literal in an attribute and a text at run time mean the same.

/// Milliseconds in a text such as `1h30m`.
pub(crate) fn parse_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration: write `500ms`, `5s`, `1m30s`, `2h`, `3d` or `2w`");
    let (mut rest, mut sum) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        sum = count.checked_mul(unit_ms).and_then(|ms| sum.checked_add(ms)).ok_or_else(wrong)?;
    }
    Ok(sum)
}
