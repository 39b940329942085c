//! Lists that the engine hands out page by page.

use crate::exit::Outcome;

/// The items of a list, or of a page of it, and the cursor of those that follow.
pub(super) type Listed<T> = (Vec<T>, Option<String>);

/// Asks for page after page until there are `limit` items, or no more. `page` asks for the page behind a cursor, with as
/// many items as are still wanted at most.
pub(super) async fn pages<T>(
    first: Option<String>,
    limit: usize,
    mut page: impl AsyncFnMut(Option<String>, u32) -> Outcome<Listed<T>>,
) -> Outcome<Listed<T>> {
    let (mut all, mut cursor) = (Vec::new(), first);
    while all.len() < limit {
        let wanted = u32::try_from(limit - all.len()).unwrap_or(u32::MAX);
        let (items, next) = page(cursor, wanted).await?;
        all.extend(items);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    Ok((all, cursor))
}
