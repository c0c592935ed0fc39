pub mod permission;
