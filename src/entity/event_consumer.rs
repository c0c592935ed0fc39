//! How far each reader of the log has come.

use sea_orm::entity::prelude::*;

/// A row of `event_consumer`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_consumer")]
pub struct Model {
    /// Who reads.
    #[sea_orm(primary_key, auto_increment = false)]
    pub consumer: String,
    /// Until which position.
    pub position: i64,
}

/// It belongs to the deployment.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
