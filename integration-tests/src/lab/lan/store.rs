//! Faults of the master's store: a full disk, a disk without anything on it.

use std::fs;

use super::{
    super::{
        redis::{LabRedis, PASSWORD},
        shef::Master,
        system::run,
    },
    LanLab,
};

/// The file that takes all the room there is.
const BALLAST: &str = "ballast";

/// Tells a master where its state is, and makes the place.
pub(super) fn prepare(
    master: &mut Master,
    redis: Option<&LabRedis>,
    disk_mb: Option<u32>,
) -> Result<(), String> {
    if let Some(redis) = redis {
        master.process.set("SHEF_REDIS_URL", redis.url());
        master.process.set("SHEF_REDIS_PASSWORD", PASSWORD);
    }
    fs::create_dir_all(&master.data)
        .map_err(|error| format!("{} cannot be made: {error}", master.data.display()))?;
    if let Some(mb) = disk_mb {
        let options = format!("size={mb}m,mode=700");
        run(&["mount", "-t", "tmpfs", "-o", &options, "shef-lab-disk", &master.data.display().to_string()])?;
    }
    Ok(())
}

impl LanLab {
    /// Fills the disk that the master's file lies on. The plan must have given it one.
    ///
    /// # Errors
    /// It has no disk of its own.
    pub fn fill_disk(&self) -> Result<(), String> {
        let dir = self.master.data.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(&dir)) {
            return Err(
                "the master's file has no disk of its own, so that this would fill the machine's memory: \
                        start the lab with a small one (--disk-mb 8)"
                    .to_owned(),
            );
        }
        // It writes until there is no room, which is no mishap here.
        let _ = run(&["dd", "if=/dev/zero", &format!("of={dir}/{BALLAST}"), "bs=4k"]);
        Ok(())
    }

    /// Makes room on it again.
    ///
    /// # Errors
    /// It has not been filled.
    pub fn free_disk(&self) -> Result<(), String> {
        fs::remove_file(self.master.data.join(BALLAST))
            .map_err(|error| format!("the disk has not been filled: {error}"))
    }

    /// Takes all that the store holds away: of Redis while it runs, of a file while its master does not.
    ///
    /// # Errors
    /// The master must be killed first, or what the system refused.
    pub fn wipe_store(&mut self) -> Result<(), String> {
        if let Some(redis) = &self.redis {
            redis.run::<String>(0, &["FLUSHALL"]);
            return Ok(());
        }
        if self.master.process.is_running() {
            return Err("the master has its file open: kill the master first".to_owned());
        }
        let entries = fs::read_dir(&self.master.data).map_err(|error| error.to_string())?;
        entries
            .flatten()
            .try_for_each(|entry| fs::remove_file(entry.path()).map_err(|error| error.to_string()))
    }
}
