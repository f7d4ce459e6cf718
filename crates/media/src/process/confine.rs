//! What keeps a process in: environment, resource limits, parent-death signal, Landlock. Nothing here starts or kills.

use super::{Access, Limits};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What programs read to start: libraries, the loader's cache, time zone, processor facts.
const SYSTEM_READS: [&str; 14] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/opt",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/fonts",
    "/proc",
    "/sys/devices/system",
    "/dev/urandom",
];

/// How well this kernel confines a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Landlock version of the kernel, 0 = none: the process can read what the user can.
    pub landlock_abi: u32,
    /// TCP is blocked by the kernel, beyond ffmpeg's own protocol allow-list.
    pub is_network_blocked: bool,
}

/// Asks the kernel.
pub(crate) fn sandbox_of_this_kernel() -> Sandbox {
    const VERSION_FLAG: libc::c_long = 1;
    // SAFETY: with this flag the call takes no structure and only returns a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION_FLAG)
    };
    let landlock_abi = u32::try_from(abi).unwrap_or(0);
    Sandbox { landlock_abi, is_network_blocked: landlock_abi >= 4 }
}

/// Confinement of one process, prepared before the fork.
pub(super) struct Cage {
    rules: Option<OwnedFd>,
    limits: Vec<(libc::__rlimit_resource_t, u64)>,
    nice: libc::c_int,
    environment: Vec<(OsString, OsString)>,
}

/// The part of a [`Cage`] that is closed between fork and exec: numbers and a descriptor, no heap.
pub(super) struct Lock {
    rules: Option<OwnedFd>,
    limits: [(libc::__rlimit_resource_t, u64); 5],
    nice: libc::c_int,
    parent: libc::pid_t,
}

impl Cage {
    pub(super) fn new(program: &Path, access: &Access, limits: &Limits, landlock: bool) -> Self {
        let library_path = std::env::var_os("LD_LIBRARY_PATH");
        // A ruleset that cannot be built leaves the process unconfined by Landlock, as on kernels without it.
        let rules = landlock.then(|| ruleset(program, access, library_path.as_ref()).ok().flatten()).flatten();
        let mut environment: Vec<(OsString, OsString)> = [
            ("PATH", "/usr/bin:/bin"),
            ("LANG", "C"),
            ("TZ", "UTC"),
            // SVT-AV1 prints a banner at every start otherwise.
            ("SVT_LOG", "1"),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
        if let Some(path) = library_path {
            environment.push(("LD_LIBRARY_PATH".into(), path));
        }
        let limits = vec![
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_NOFILE, limits.open_files),
            (libc::RLIMIT_CPU, unlimited_if_zero(limits.cpu_seconds)),
            (libc::RLIMIT_AS, unlimited_if_zero(limits.address_space_bytes)),
            (libc::RLIMIT_FSIZE, unlimited_if_zero(limits.file_bytes)),
        ];
        Cage { rules, limits, nice: limits_nice(limits_of(limits_nice_source)), environment }
    }
}
