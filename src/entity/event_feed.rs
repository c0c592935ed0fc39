//! How far the order of all events of the deployment goes.

use sea_orm::entity::prelude::*;

/// The one row of `event_feed`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_feed")]
pub struct Model {
    /// 1: there is one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub feed: i16,
    /// The position of the event that was placed last.
    pub last_position: i64,
    /// Until which position events are forgotten for their age.
    pub forgotten_position: i64,
}

/// It relates to nothing.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
