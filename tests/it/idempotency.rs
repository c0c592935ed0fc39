//! The same request sent again.
