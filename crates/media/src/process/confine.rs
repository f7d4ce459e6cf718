//! What keeps a process in: environment, descriptors, resource limits, parent-death signal, Landlock. Nothing here starts
//! or kills.

#![allow(unsafe_code, reason = "confines processes by system calls")]

use super::run::{Access, Limits};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, make_bitflags, path_beneath_rules,
};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What programs read to start: libraries, the loader's cache, time zone, processor facts.
const SYSTEM_READS: [&str; 16] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/fonts",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/filesystems",
    "/sys/devices/system",
    "/dev/urandom",
];

/// Descriptors that are looked at one by one on kernels without `close_range`.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;

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
    environment: Vec<(OsString, OsString)>,
    lock: Lock,
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
        let limits_and_nice = [
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_NOFILE, limits.open_files),
            (libc::RLIMIT_CPU, unlimited_if_zero(limits.cpu_seconds)),
            (libc::RLIMIT_AS, unlimited_if_zero(limits.address_space_bytes)),
            (libc::RLIMIT_FSIZE, unlimited_if_zero(limits.file_bytes)),
        ];
        // SAFETY: getpid cannot fail.
        let parent = unsafe { libc::getpid() };
        Cage { environment, lock: Lock { rules, limits: limits_and_nice, nice: limits.nice.clamp(0, 19), parent } }
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.environment.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn into_lock(self) -> Lock {
        self.lock
    }
}

impl Lock {
    /// Confines the calling process. Runs between fork and exec: system calls only.
    pub(super) fn close(&mut self) -> std::io::Result<()> {
        // SAFETY: prctl with these options takes numbers only.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
        // The parent may have died before the signal was asked for.
        // SAFETY: getppid cannot fail.
        if unsafe { libc::getppid() } != self.parent {
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        // SAFETY: as above.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        close_at_exec()?;
        for (resource, value) in self.limits {
            lower_limit(resource, value)?;
        }
        if self.nice > 0 {
            // Being too eager is no reason to fail.
            // SAFETY: takes numbers only.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, self.nice) };
        }
        if let Some(rules) = &self.rules {
            // SAFETY: the descriptor is an open ruleset.
            check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) } as libc::c_int)?;
        }
        Ok(())
    }
}

/// Marks every descriptor but the standard streams to be closed at exec: what this process inherited itself, such as a
/// locked file of a shell, would otherwise stay open, and locked, in its children. Marked and not closed, because exec
/// reports its failure through one of them.
fn close_at_exec() -> std::io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: takes numbers only.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return Ok(());
    }
    // Linux before 5.11 does not know the call or the flag.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let end = libc::c_int::try_from(limit.rlim_cur.min(MOST_DESCRIPTORS)).unwrap_or(libc::c_int::MAX);
    for descriptor in 3..end {
        // SAFETY: takes numbers only; descriptors that are not open answer with an error that means nothing here.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn unlimited_if_zero(value: u64) -> u64 {
    if value == 0 { libc::RLIM_INFINITY } else { value }
}

/// Sets a limit, never above the one that already holds.
fn lower_limit(resource: libc::__rlimit_resource_t, value: u64) -> std::io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a live local.
    unsafe {
        check(libc::getrlimit(resource, &mut now))?;
        let value = value.min(now.rlim_max);
        check(libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }))
    }
}

fn check(result: libc::c_int) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// The rules: start the program, read what was named, write where was named, nothing else; no TCP, no signals or
/// abstract sockets to the outside. Parts that the kernel does not know are left out.
fn ruleset(program: &Path, access: &Access, library_path: Option<&OsString>) -> Result<Option<OwnedFd>, RulesetError> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let look: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = look | make_bitflags!(AccessFs::{WriteFile | MakeReg | RemoveFile | Truncate});
    let mut programs: Vec<PathBuf> = SYSTEM_READS.iter().map(PathBuf::from).collect();
    programs.push(program.to_owned());
    // A build in a directory of its own keeps its libraries in ../lib.
    programs.extend(program.parent().and_then(Path::parent).map(|prefix| prefix.join("lib")));
    programs.extend(library_path.iter().flat_map(std::env::split_paths));
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(&programs, read))?
        .add_rules(path_beneath_rules(&access.read, look))?
        .add_rules(path_beneath_rules(&access.write, write))?
        .add_rules(path_beneath_rules(["/dev/null"], make_bitflags!(AccessFs::{ReadFile | WriteFile})))?;
    Ok(created.into())
}
