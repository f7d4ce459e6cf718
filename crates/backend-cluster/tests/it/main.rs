//! Against real servers: `scripts/services start`, then `eval "$(scripts/services env)"`.

mod amqp;
mod postgres;
mod s3;
mod s3_faults;
mod s3_seams;
mod s3_sources;
mod s3_uploads;
