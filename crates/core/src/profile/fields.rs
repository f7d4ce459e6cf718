//! Names of the fields of profiles, read from the types themselves: error messages and documents take them from here.

use super::{AudioProfile, PackagingProfile, Profile, Rung, SourceProfile, SplitProfile, VideoProfile};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor, value::Error};
use serde::forward_to_deserialize_any;

impl Profile {
    /// The tables of a profile file by dotted path, `""` for the root, each with its fields in the order of the type.
    pub fn tables() -> [(&'static str, &'static [&'static str]); 7] {
        [
            ("", fields::<Profile>()),
            ("source", fields::<SourceProfile>()),
            ("video", fields::<VideoProfile>()),
            ("video.rungs", fields::<Rung>()),
            ("audio", fields::<AudioProfile>()),
            ("packaging", fields::<PackagingProfile>()),
            ("split", fields::<SplitProfile>()),
        ]
    }
}

/// The names under which serde reads the fields of a struct; empty for types that are no struct.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Always an error: the derived code hands over the names before it asks for a value, and there is none.
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

/// A deserializer without data that keeps the field names of the struct it is asked for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("there is no data"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// Every object and list of objects in a profile, as dotted paths with the names that serde writes.
    fn written(path: &str, value: &Value, found: &mut Vec<(String, BTreeSet<String>)>) {
        match value {
            Value::Object(fields) => {
                found.push((path.to_owned(), fields.keys().cloned().collect()));
                for (name, value) in fields {
                    let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    written(&below, value, found);
                }
            }
            Value::Array(items) => items.iter().take(1).for_each(|item| written(path, item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_table_of_a_written_profile_is_listed_with_its_fields() {
        let profile = serde_json::to_value(Profile::built_in("universal").unwrap()).unwrap();
        let mut found = Vec::new();
        written("", &profile, &mut found);
        let mut tables: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        let mut listed = Profile::tables().map(|(path, _)| path);
        tables.sort_unstable();
        listed.sort_unstable();
        assert_eq!(tables, listed);
        for (path, names) in found {
            let (_, listed) = Profile::tables().into_iter().find(|(table, _)| *table == path).unwrap();
            // Absent settings of a rung are not written.
            let listed: BTreeSet<String> = listed.iter().map(|&name| name.to_owned()).collect();
            assert!(names.is_subset(&listed), "{path}: {names:?}");
            assert!(path == "video.rungs" || names == listed, "{path}: {names:?}");
        }
    }

    #[test]
    fn fields_keep_the_order_of_the_type() {
        assert_eq!(fields::<Profile>(), ["name", "description", "source", "video", "audio", "packaging", "split"]);
        assert_eq!(fields::<String>(), [""; 0]);
    }
}
