//! A transaction whose statements end, whatever becomes of the database.

use sea_orm::entity::prelude::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::pool::Generation;

/// A transaction. Where its connection leads to nobody any more, it hears so; dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    generation: Generation,
}

impl Transaction {
    pub(super) fn new(inner: DatabaseTransaction, generation: Generation) -> Self {
        Self { inner, generation }
    }

    /// Keeps what was done. After an error it may have been kept all the same, if the connection was lost.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.generation.answers(self.inner.commit()).await
    }

    /// Takes back what was done.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.generation.answers(self.inner.rollback()).await
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.generation.answers(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.generation.answers(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.generation.answers(self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.generation.answers(self.inner.query_all_raw(statement)).await
    }
}
