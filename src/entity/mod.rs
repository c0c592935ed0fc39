//! One SeaORM entity for each table of `migrations/`, without logic.

pub mod billing_profile;
pub mod custom_role;
pub mod data_import;
pub mod deployment;
pub mod event;
pub mod former_member;
pub mod invitation;
pub mod join_request;
pub mod membership;
pub mod organization;
pub mod organization_day;
pub mod organization_domain;
pub mod organization_settings;
pub mod recording;
pub mod room_session;
pub mod stored_answer;
pub mod subscription;
pub mod workspace;
pub mod workspace_member;
