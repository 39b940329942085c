//! The part of a database's address that other processes need.

use sqlx::postgres::PgConnectOptions;

/// The host (none for a local socket) and port of the server that holds this database, or none if the database is a
/// file.
#[must_use]
pub fn server_of(url: &str) -> Option<(Option<String>, u16)> {
    let options: PgConnectOptions = url.starts_with("postgres").then(|| url.parse().ok())??;
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    Some(((!is_socket).then(|| options.get_host().to_owned()), options.get_port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_a_port_and_a_file_has_none() {
        assert_eq!(server_of("sqlite:postgres.db"), None);
        assert_eq!(server_of("postgres://me:pw@db.example.com:6543/x"), Some((Some("db.example.com".into()), 6543)));
        assert_eq!(server_of("postgresql://[::1]/x"), Some((Some("[::1]".into()), 5432)));
        assert_eq!(server_of("postgres://me@%2Frun%2Fpostgresql/x"), Some((None, 5432)));
        assert_eq!(server_of("postgres:///x?host=/run/postgresql&port=5433"), Some((None, 5433)));
    }
}
