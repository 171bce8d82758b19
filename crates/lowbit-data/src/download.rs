//! Fetching one known file: resumed where it broke off, checked, and only then given its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::{DataError, Progress, Unit};

/// Attempts in a row that may bring nothing before the download is given up.
const FRUITLESS_ATTEMPTS: usize = 3;

/// A file on a server, known beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// Where a person can fetch it.
    pub(crate) page: &'a str,
    pub(crate) file_name: &'a str,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Its MD5 in lower-case hexadecimal.
    pub(crate) md5: &'a str,
}

/// Why an attempt ended.
enum Stop {
    /// Another attempt may go on from what is there.
    Broken(String),
    /// No attempt will help.
    Final(String),
}

/// An HTTP client that does not wait forever.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .user_agent(concat!("lowbit/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Fetches `remote` into `folder`, through a `.part` file that a later call goes on with.
pub(crate) fn fetch(
    agent: &Agent,
    remote: &Remote,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, DataError> {
    let target = folder.join(remote.file_name);
    let part = folder.join(format!("{}.part", remote.file_name));
    fs::create_dir_all(folder).map_err(|source| DataError::io("create", folder, source))?;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&part)
        .map_err(|source| DataError::io("write", &part, source))?;
    let failed = |reason: String| DataError::Download {
        url: remote.url.to_owned(),
        reason,
        remedy: format!(
            "try again later, or fetch {} from {} by hand and put it into {}",
            remote.file_name,
            remote.page,
            folder.display()
        ),
    };
    // Some file systems know no locks; only a lock that another holds is in the way.
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(failed("another process is downloading it".into()));
    }
    let what = format!("downloading {}", remote.file_name);
    progress.begin(&what, remote.len, Unit::Bytes);
    let outcome = whole(agent, remote, &mut file, progress);
    progress.finish();
    if let Err(reason) = outcome {
        if length(&file) == Ok(0) {
            drop(file);
            let _ = fs::remove_file(&part);
        }
        return Err(failed(reason));
    }
    let found = checksum(&mut file).map_err(|source| DataError::io("read", &part, source))?;
    if found != remote.md5 {
        drop(file);
        let _ = fs::remove_file(&part);
        let expected = remote.md5;
        return Err(failed(format!(
            "its MD5 is {found}, expected {expected}; it was removed"
        )));
    }
    file.sync_all()
        .map_err(|source| DataError::io("write", &part, source))?;
    drop(file);
    fs::rename(&part, &target).map_err(|source| DataError::io("write", &target, source))?;
    Ok(target)
}

/// Attempts until the file has its length.
fn whole(
    agent: &Agent,
    remote: &Remote,
    file: &mut File,
    progress: &dyn Progress,
) -> Result<(), String> {
    let mut fruitless = 0;
    let mut shown = 0;
    loop {
        let before = length(file)?;
        if before > remote.len {
            file.set_len(0).map_err(|error| error.to_string())?;
            continue;
        }
        progress.advance(before.saturating_sub(shown));
        shown = shown.max(before);
        if before == remote.len {
            return Ok(());
        }
        let reason = match attempt(agent, remote, file, &mut shown, progress) {
            Ok(()) => continue,
            Err(Stop::Final(reason)) => return Err(reason),
            Err(Stop::Broken(reason)) => reason,
        };
        fruitless = if length(file)? > before {
            0
        } else {
            fruitless + 1
        };
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(reason);
        }
    }
}

fn length(file: &File) -> Result<u64, String> {
    file.metadata()
        .map(|data| data.len())
        .map_err(|error| error.to_string())
}

/// One request for what is missing; `shown` is how far the progress has come.
fn attempt(
    agent: &Agent,
    remote: &Remote,
    file: &mut File,
    shown: &mut u64,
    progress: &dyn Progress,
) -> Result<(), Stop> {
    let have = length(file).map_err(Stop::Final)?;
    let mut request = agent.get(remote.url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let response = request
        .call()
        .map_err(|error| Stop::Broken(error.to_string()))?;
    let mut at = begin(&response, remote, file, have)?;
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    let mut block = vec![0; 1 << 16];
    while at < remote.len {
        let count = match body.read(&mut block) {
            Ok(0) => return Err(Stop::Broken(format!("it broke off after {at} bytes"))),
            Ok(count) => count,
            Err(error) => {
                return Err(Stop::Broken(format!(
                    "it broke off after {at} bytes: {error}"
                )));
            }
        };
        if at + count as u64 > remote.len {
            let reason = format!("it is longer than the expected {} bytes", remote.len);
            return Err(Stop::Final(reason));
        }
        file.write_all(&block[..count])
            .map_err(|error| Stop::Final(format!("it cannot be written: {error}")))?;
        at += count as u64;
        progress.advance(at.saturating_sub(*shown));
        *shown = (*shown).max(at);
    }
    Ok(())
}

/// Checks what the server is about to send and returns where in the file it goes.
fn begin(response: &Response<Body>, remote: &Remote, file: &File, have: u64) -> Result<u64, Stop> {
    let empty = || {
        file.set_len(0)
            .map_err(|error| Stop::Final(format!("it cannot be written: {error}")))
    };
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let expected = format!("bytes {have}-{}/{}", remote.len - 1, remote.len);
            let found = response.headers().get(header::CONTENT_RANGE);
            if found.is_none_or(|found| found.as_bytes() != expected.as_bytes()) {
                empty()?;
                return Err(Stop::Broken(format!(
                    "the server did not send `{expected}`"
                )));
            }
            Ok(have)
        }
        // A server that ignores the range sends everything again.
        StatusCode::OK => {
            let claimed = response.body().content_length();
            if let Some(claimed) = claimed.filter(|&claimed| claimed != remote.len) {
                return Err(Stop::Final(format!(
                    "the server has a file of {claimed} bytes, expected {}",
                    remote.len
                )));
            }
            empty()?;
            Ok(0)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            empty()?;
            Err(Stop::Broken("the server refused to resume".into()))
        }
        status if status.is_server_error() => {
            Err(Stop::Broken(format!("the server says {status}")))
        }
        status => Err(Stop::Final(format!("the server says {status}"))),
    }
}

fn checksum(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Md5::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => hasher.update(&block[..count]),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests;
