//! `splitreel profiles`: what there is, and one as a file to start from.

use crate::exit::{Exit, Problem};
use crate::profile_file;
use clap::Args;
use splitreel_core::profile::Profile;

/// Arguments of `profiles`.
#[derive(Debug, Args)]
pub struct ProfilesArgs {
    /// Show this profile (a name, or a file to check) as TOML.
    #[arg(value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Lists or shows profiles.
pub fn profiles(args: &ProfilesArgs) -> Result<Exit, Problem> {
    let unprintable = |e: &dyn std::error::Error| Problem::because("the profile cannot be written", e);
    match &args.profile {
        Some(name) => {
            let p = profile_file::resolve(name)?;
            let errors = p.validate();
            if let Some(first) = errors.first() {
                return Err(Problem::usage(format!("{name}: {first}")));
            }
            if args.json {
                say!("{}", serde_json::to_string_pretty(&p).map_err(|e| unprintable(&e))?);
            } else {
                say!("{}", toml::to_string(&p).map_err(|e| unprintable(&e))?.trim_end());
            }
        }
        None => {
            let all: Vec<Profile> = Profile::BUILT_IN.iter().filter_map(|n| Profile::built_in(n)).collect();
            if args.json {
                say!("{}", serde_json::to_string_pretty(&all).map_err(|e| unprintable(&e))?);
            } else {
                for p in all {
                    say!("{:<13}{}", p.name, p.description);
                }
                say!(
                    "\nA profile of your own: splitreel profiles universal > my.toml, change it, then --profile my.toml"
                );
            }
        }
    }
    Ok(Exit::Done)
}
