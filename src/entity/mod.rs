//! One SeaORM entity for each table of `migrations/`, without logic.

pub mod deployment;
pub mod event;
pub mod invitation;
pub mod membership;
pub mod organization;
pub mod stored_answer;
pub mod subscription;
