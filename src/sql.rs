//! What statements of different tables have in common.
//!
//! Above all, statements of few different sizes.
//!
//! PostgreSQL and the driver keep every different statement prepared, and a list of another length is another statement: the
//! sizes that batches happen to have would fill the memory of both. So lists are padded, and rows written in blocks, to
//! powers of two.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter as _};

use crate::error::Error;

/// A list whose length is a power of two: the last item again and again. For conditions, which do not mind.
#[must_use]
pub fn padded<T: Clone>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    if let Some(last) = items.last().cloned() {
        items.resize(items.len().next_power_of_two(), last);
    }
    items
}

/// The rows in blocks whose lengths are powers of two, the largest first, none longer than a statement takes.
pub fn blocks<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    /// SQLite binds at most 32,766 values.
    const LONGEST: usize = 512;
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = match rest.len() {
            0 => return None,
            left => LONGEST.min(1 << left.ilog2()),
        };
        let (block, after) = rest.split_at(length);
        rest = after;
        Some(block)
    })
}

/// Inserts rows, in blocks.
pub async fn insert_all<M>(connection: &impl ConnectionTrait, rows: &[M]) -> Result<(), DbErr>
where
    M: ModelTrait + IntoActiveModel<<M::Entity as EntityTrait>::ActiveModel> + Clone,
    <M::Entity as EntityTrait>::ActiveModel: ActiveModelTrait<Entity = M::Entity>,
{
    for rows in blocks(rows) {
        let rows = rows.iter().cloned().map(M::into_active_model);
        M::Entity::insert_many(rows).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// Deletes some of the rows that a condition holds for, and says how many those were; `key` is what tells rows apart.
pub async fn delete_some<E: EntityTrait>(
    connection: &impl ConnectionTrait,
    key: &[E::Column],
    which: SimpleExpr,
    limit: u64,
) -> Result<u64, DbErr> {
    let columns = || key.iter().copied();
    let some = Query::select().columns(columns()).from(E::default()).and_where(which).limit(limit).to_owned();
    let delete = E::delete_many().filter(Expr::tuple(columns().map(Expr::col)).in_subquery(some));
    Ok(delete.exec(connection).await?.rows_affected)
}

/// The pattern of every text that contains this one, for LIKE: `%` and `_` are letters like others, escaped by `\`.
#[must_use]
pub fn containing(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// How many rows there are, as books count them.
pub fn counted(rows: impl TryInto<i64>) -> Result<i64, Error> {
    rows.try_into().map_err(|_| Error::defect("more rows than can be counted"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_the_rows_in_few_sizes(rows in prop::collection::vec(0..9u8, 0..1500)) {
            prop_assert_eq!(blocks(&rows).flatten().copied().collect::<Vec<_>>(), rows.clone());
            prop_assert!(blocks(&rows).all(|block| block.len().is_power_of_two() && block.len() <= 512));
            prop_assert!(blocks(&rows).count() <= 2 + 9);
        }

        #[test]
        fn padding_adds_nothing_new(items in prop::collection::vec(0..9u8, 0..600)) {
            let list = padded(items.clone());
            prop_assert!(list.starts_with(&items));
            prop_assert!(list.is_empty() || list.len().is_power_of_two());
            prop_assert!(list[items.len()..].iter().all(|item| Some(item) == items.last()));
        }
    }
}
