//! What of a file is taken in the database already, by what another wrote.

use std::collections::HashMap;
use std::hash::Hash;

use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{ColumnTrait as _, Condition, DbErr, EntityTrait, QueryFilter as _, QuerySelect as _};
use uuid::Uuid;

use super::check::Checker;
use super::format::Line;
use crate::database::Database;
use crate::entity::{organization, workspace};
use crate::sql;

/// How many lines are asked for at once.
const AT_ONCE: usize = 512;

/// The lines that are still to be asked for.
#[derive(Debug, Default)]
pub struct Conflicts {
    organizations: HashMap<Uuid, u32>,
    slugs: HashMap<String, u32>,
    defaults: HashMap<String, u32>,
    room_slugs: HashMap<String, u32>,
}

impl Conflicts {
    /// Notes a line.
    pub fn line(&mut self, number: u32, line: &Line) {
        match line {
            Line::Organization(organization) => {
                self.organizations.insert(organization.organization_id, number);
                self.slugs.insert(organization.slug.clone(), number);
                self.defaults.extend(organization.default_of_user_id.clone().map(|user_id| (user_id, number)));
            }
            Line::Room(room) => self.room_slugs.extend(room.slug.clone().map(|slug| (slug, number))),
            _ => {}
        }
    }

    /// Whether enough was noted to ask.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.organizations.len().max(self.room_slugs.len()) >= AT_ONCE
    }

    /// Asks for all that was noted, and tells what is taken as faults.
    pub async fn ask(&mut self, database: &Database, checker: &mut Checker<'_>) -> Result<(), DbErr> {
        use {organization::Column as O, workspace::Column as W};
        let live = || O::DeletedAt.is_null().into_condition();
        let any = Condition::all;
        let asked = std::mem::take(self);
        let ids = asked.organizations;
        let taken = taken::<organization::Entity, _>(database, O::OrganizationId, ids, any()).await?;
        tell(checker, taken, "organization_id: is that of an organization in the database");
        let taken = self::taken::<organization::Entity, _>(database, O::Slug, asked.slugs, any()).await?;
        tell(checker, taken, "slug: is that of an organization in the database");
        let taken =
            self::taken::<organization::Entity, _>(database, O::DefaultOfUserId, asked.defaults, live()).await?;
        tell(checker, taken, "default_of_user_id: has an organization in the database");
        let taken = self::taken::<workspace::Entity, _>(database, W::Slug, asked.room_slugs, any()).await?;
        tell(checker, taken, "slug: is that of a room in the database");
        Ok(())
    }
}

fn tell(checker: &mut Checker<'_>, lines: Vec<u32>, text: &str) {
    for line in lines {
        checker.fault(line, text);
    }
}

/// The lines of those keys that are in a column.
async fn taken<E: EntityTrait, K>(
    database: &Database,
    column: E::Column,
    lines: HashMap<K, u32>,
    condition: Condition,
) -> Result<Vec<u32>, DbErr>
where
    K: Clone + Eq + Hash + Into<sea_orm::Value> + sea_orm::TryGetable,
{
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<K> = E::find()
        .select_only()
        .column(column)
        .filter(column.is_in(sql::padded(lines.keys().cloned())))
        .filter(condition)
        .into_tuple()
        .all(database.reader())
        .await?;
    Ok(found.iter().filter_map(|key| lines.get(key).copied()).collect())
}
