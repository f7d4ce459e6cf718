//! The migrations of the SQLite schema, embedded in the program. Listed by hand, not with `sqlx::migrate!`: the macro
//! compiles every database driver a second time, for the compiler's own use.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use std::sync::LazyLock;

/// Version, description and SQL of each file in `migrations/sqlite`, oldest first. Databases remember all three: never
/// change a line that was released.
const FILES: [(i64, &str, &str); 5] = [
    (1, "jobs", include_str!("../../../../migrations/sqlite/0001_jobs.sql")),
    (2, "cluster", include_str!("../../../../migrations/sqlite/0002_cluster.sql")),
    (3, "second attempts", include_str!("../../../../migrations/sqlite/0003_second_attempts.sql")),
    (4, "generations", include_str!("../../../../migrations/sqlite/0004_generations.sql")),
    (5, "records written", include_str!("../../../../migrations/sqlite/0005_records_written.sql")),
];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = FILES.into_iter().map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
});

/// All migrations, oldest first.
pub(super) fn migrator() -> &'static Migrator {
    &MIGRATOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_by_its_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut found: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        let listed = migrator().iter().map(|m| format!("{:04}_{}.sql", m.version, m.description.replace(' ', "_")));
        assert_eq!(listed.collect::<Vec<_>>(), found);
    }
}
