//! The migrations that bring a database's schema up to date.

use std::sync::LazyLock;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The migrations of one database: the same names for both, in their order.
///
/// `sqlx::migrate!` does the same, but it is a procedural macro: for it sqlx, its drivers and the whole of SQLite are
/// compiled a second time, for the compiler. The checksums are equal, because [`Migration::new`] makes them as well.
macro_rules! migrations {
    ($database:literal) => {
        migrations!($database: "0001_rows", "0002_places", "0003_straight", "0004_counted", "0005_crashes",
            "0006_removal", "0007_packs", "0008_identity", "0009_quotas", "0010_audit", "0011_deletion",
            "0012_secrets", "0013_links", "0014_bulk", "0015_grants",
            "0016_children", "0017_stored_bytes", "0018_waits_for", "0019_views",
            "0020_of_tenant", "0021_remains", "0022_runs", "0023_in_turn")
    };
    ($database:literal: $($name:literal),+) => {
        [$(($name, include_str!(concat!("../migrations/", $database, "/", $name, ".sql")))),+]
    };
}

pub(crate) static SQLITE_SCHEMA: LazyLock<Migrator> = LazyLock::new(|| migrator(&migrations!("sqlite")));
pub(crate) static POSTGRES_SCHEMA: LazyLock<Migrator> = LazyLock::new(|| migrator(&migrations!("postgres")));

fn migrator(files: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = files.iter().map(|(name, sql)| {
        let (version, description) = name.split_once('_').expect("a migration is called `NUMBER_NAME`");
        let version = version.parse().expect("a migration's name begins with its number");
        Migration::new(version, description.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_the_folder_of_migrations_is_run() {
        for (database, schema) in [("sqlite", &*SQLITE_SCHEMA), ("postgres", &*POSTGRES_SCHEMA)] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
                .collect();
            let mut run: Vec<_> = schema.iter().map(|migration| migration.sql.as_str().to_owned()).collect();
            files.sort();
            run.sort();
            assert_eq!(run, files, "{database}");
        }
    }
}
