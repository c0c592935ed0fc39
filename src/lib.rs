pub mod auth;
pub mod pb;
