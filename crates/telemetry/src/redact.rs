//! Secrets of a configuration: how they are read, and that they are never shown.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// What is shown instead of a secret.
pub const REDACTED: &str = "[redacted]";
/// No secret of ours is longer; a longer file is a mistake.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Something that no log, error or printed configuration may show: `Debug`, `Display` and `Serialize` write
/// [`REDACTED`]. It is deserialized from its value.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Secret(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `NAME` and `NAME_FILE` are both set.
    #[error("{name} and {name}_FILE are both set: which one counts?")]
    Both {
        /// The name.
        name: String,
    },
    /// The variable is not valid UTF-8.
    #[error("{name} is not valid UTF-8")]
    NotText {
        /// The name.
        name: String,
    },
    /// The file cannot be read as text.
    #[error("{name}_FILE names {}, which cannot be read", path.display())]
    File {
        /// The name.
        name: String,
        /// What it says.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than 64 KiB.
    #[error("{name}_FILE names {}, which is too large for a secret", path.display())]
    TooLarge {
        /// The name.
        name: String,
        /// What it says.
        path: PathBuf,
    },
}

/// Reads a secret from the environment variable `name`, or from the file that `name_FILE` names, whose last line end
/// does not count. Empty variables are as good as none.
pub fn from_env_or_file(name: &str) -> Result<Option<Secret<String>>, SecretError> {
    from_lookup(name, |variable| match std::env::var(variable) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotText { name: variable.to_owned() }),
    })
}

/// [`from_env_or_file`] with another environment.
pub fn from_lookup(
    name: &str,
    lookup: impl Fn(&str) -> Result<Option<String>, SecretError>,
) -> Result<Option<Secret<String>>, SecretError> {
    let value = lookup(name)?.filter(|value| !value.is_empty());
    let file = lookup(&format!("{name}_FILE"))?.filter(|file| !file.is_empty());
    match (value, file) {
        (Some(_), Some(_)) => Err(SecretError::Both { name: name.to_owned() }),
        (Some(value), None) => Ok(Some(Secret(value))),
        (None, Some(file)) => read_file(name, Path::new(&file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_file(name: &str, path: &Path) -> Result<Secret<String>, SecretError> {
    use std::io::Read;
    let broken = |source| SecretError::File { name: name.to_owned(), path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(broken)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(broken)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(SecretError::TooLarge { name: name.to_owned(), path: path.to_owned() });
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(Secret(text))
}

/// A URL for logs and error messages: scheme, host, port and path, without user, password, query and fragment.
/// What is not a URL with a host is not shown at all.
pub fn without_credentials(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return REDACTED.to_owned() };
    if !parsed.has_host() {
        return REDACTED.to_owned();
    }
    let cleared = parsed.set_username("").and_then(|()| parsed.set_password(None));
    if cleared.is_err() {
        return REDACTED.to_owned();
    }
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Debug, Serialize, Deserialize)]
    struct Config {
        user: String,
        password: Secret<String>,
        maybe: Option<Secret<String>>,
    }

    proptest! {
        #[test]
        fn a_secret_never_prints(secret in "[a-zA-Z0-9/+]{12,40}") {
            let config: Config =
                serde_json::from_value(json!({"user": "u", "password": secret, "maybe": secret})).unwrap();
            prop_assert_eq!(config.password.expose(), &secret);
            let shown = [
                format!("{config:?}"),
                format!("{config:#?}"),
                config.password.to_string(),
                serde_json::to_string(&config).unwrap(),
            ];
            for text in shown {
                prop_assert!(!text.contains(&secret) && text.contains(REDACTED), "{text}");
            }
        }

        #[test]
        fn a_shown_url_has_no_credentials(password in "[a-z0-9]{12}", query in "[a-z0-9]{12}") {
            let url = format!("amqps://splitreel:{password}@broker:5671/vhost?token={query}#f");
            prop_assert_eq!(without_credentials(&url), "amqps://broker:5671/vhost");
        }
    }

    #[test]
    fn what_is_no_url_is_not_shown() {
        assert_eq!(without_credentials("host=db password=x"), REDACTED);
        assert_eq!(without_credentials("mailto:me:secret"), REDACTED);
    }

    fn lookup(pairs: &[(&'static str, &str)]) -> impl Fn(&str) -> Result<Option<String>, SecretError> {
        let pairs: Vec<(&str, String)> = pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        move |name| Ok(pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn a_value_a_file_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "from the file\n").unwrap();
        let path = file.to_str().unwrap();
        let read = |pairs: &[(&'static str, &str)]| from_lookup("PASS", lookup(pairs));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("PASS", "")]).unwrap(), None);
        assert_eq!(read(&[("PASS", "value ")]).unwrap(), Some(Secret::new("value ".to_owned())));
        assert_eq!(read(&[("PASS_FILE", path)]).unwrap(), Some(Secret::new("from the file".to_owned())));
        assert!(matches!(read(&[("PASS", "x"), ("PASS_FILE", path)]), Err(SecretError::Both { .. })));
        std::fs::write(&file, "x".repeat(70_000)).unwrap();
        assert!(matches!(read(&[("PASS_FILE", path)]), Err(SecretError::TooLarge { .. })));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(read(&[("PASS_FILE", path)]), Err(SecretError::File { .. })));
    }

    #[test]
    fn the_environment_is_asked() {
        assert!(from_env_or_file("SPLITREEL_TELEMETRY_NO_SUCH_SECRET").unwrap().is_none());
    }
}
