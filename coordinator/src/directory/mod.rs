//! Who may do what with which settings: values over records, with no word about HTTP.

mod caller;

pub use caller::Caller;
