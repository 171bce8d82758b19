//! Against a local server that misbehaves in every way we could think of.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::Silent;

const LEN: usize = 300_000;

/// What the server does with one connection, told the range's start.
type Answer = fn(TcpStream, usize);

fn content() -> Vec<u8> {
    (0..LEN).map(|at| (at * at / 7) as u8).collect()
}

fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Serves `answers`, one for each connection, then hangs up; returns the URL and the starts asked for.
fn serve(answers: &'static [Answer]) -> (String, thread::JoinHandle<Vec<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}/file.zip", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let mut starts = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().expect("a connection");
            let mut start = 0;
            for line in BufReader::new(&stream).lines() {
                let line = line.expect("a line").to_ascii_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().expect("a number");
                }
                if line.is_empty() {
                    break;
                }
            }
            starts.push(start);
            answer(stream, start);
        }
        starts
    });
    (url, server)
}

fn send(mut stream: TcpStream, head: &str, body: &[u8]) {
    // The client may hang up first; that is its right.
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}

fn everything(stream: TcpStream, _: usize) {
    send(
        stream,
        &format!("200 OK\r\nContent-Length: {LEN}"),
        &content(),
    );
}

fn break_off(stream: TcpStream, _: usize) {
    send(
        stream,
        &format!("200 OK\r\nContent-Length: {LEN}"),
        &content()[..100_000],
    );
}

fn rest(stream: TcpStream, start: usize) {
    let head = format!(
        "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{LEN}",
        LEN - start,
        LEN - 1
    );
    send(stream, &head, &content()[start..]);
}

fn rest_breaks_off(stream: TcpStream, start: usize) {
    let head = format!(
        "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{LEN}",
        LEN - start,
        LEN - 1
    );
    send(stream, &head, &content()[start..start + 50_000]);
}

fn rest_of_another_range(stream: TcpStream, _: usize) {
    let head = format!(
        "206 Partial Content\r\nContent-Range: bytes 7-{}/{LEN}",
        LEN - 1
    );
    send(stream, &head, &content()[7..]);
}

fn wrong_file(stream: TcpStream, _: usize) {
    send(
        stream,
        &format!("200 OK\r\nContent-Length: {LEN}"),
        &vec![7; LEN],
    );
}

fn claims_another_length(stream: TcpStream, _: usize) {
    send(stream, "200 OK\r\nContent-Length: 1234", &[0; 1234]);
}

fn claims_nothing_and_sends_too_much(stream: TcpStream, _: usize) {
    send(stream, "200 OK", &vec![7; LEN + 100_000]);
}

fn not_found(stream: TcpStream, _: usize) {
    send(stream, "404 Not Found\r\nContent-Length: 4", b"gone");
}

fn overloaded(stream: TcpStream, _: usize) {
    send(stream, "503 Service Unavailable\r\nContent-Length: 0", b"");
}

fn refuse_range(stream: TcpStream, _: usize) {
    send(
        stream,
        "416 Range Not Satisfiable\r\nContent-Length: 0",
        b"",
    );
}

fn hang_up(stream: TcpStream, _: usize) {
    drop(stream);
}

fn direct() -> Agent {
    Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn fetch_from(url: &str, folder: &Path, progress: &dyn Progress) -> Result<PathBuf, String> {
    let md5 = md5_of(&content());
    let remote = Remote {
        url,
        page: "https://example.org/page",
        file_name: "file.zip",
        len: LEN as u64,
        md5: &md5,
    };
    fetch(&direct(), &remote, folder, progress).map_err(|error| error.to_string())
}

/// Fetches from a server with `answers`; returns the outcome, the ranges' starts and the folder.
fn run(answers: &'static [Answer]) -> (Result<PathBuf, String>, Vec<usize>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, server) = serve(answers);
    let outcome = fetch_from(&url, folder.path(), &Silent);
    (outcome, server.join().expect("serves"), folder)
}

fn assert_whole(outcome: Result<PathBuf, String>) {
    let path = outcome.expect("fetched");
    assert_eq!(fs::read(&path).expect("reads"), content());
    assert!(!path.with_extension("zip.part").exists());
}

#[test]
fn a_file_is_fetched_and_named_at_the_end() {
    let (outcome, starts, _folder) = run(&[everything]);
    assert_whole(outcome);
    assert_eq!(starts, [0]);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped_as_often_as_it_takes() {
    let answers: &[Answer] = &[break_off, rest_breaks_off, hang_up, rest_breaks_off, rest];
    let (outcome, starts, _folder) = run(answers);
    assert_whole(outcome);
    assert_eq!(starts, [0, 100_000, 150_000, 150_000, 200_000]);
}

#[test]
fn a_later_call_goes_on_with_the_part_file() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file.zip.part"), &content()[..123_456]).expect("writes");
    let (url, server) = serve(&[rest]);
    assert_whole(fetch_from(&url, folder.path(), &Silent));
    assert_eq!(server.join().expect("serves"), [123_456]);
}

#[test]
fn a_part_file_that_is_too_long_starts_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file.zip.part"), vec![1; LEN + 1]).expect("writes");
    let (url, server) = serve(&[everything]);
    assert_whole(fetch_from(&url, folder.path(), &Silent));
    assert_eq!(server.join().expect("serves"), [0]);
}

#[test]
fn a_server_that_ignores_the_range_is_listened_to_from_the_start() {
    let (outcome, starts, _folder) = run(&[break_off, everything]);
    assert_whole(outcome);
    assert_eq!(starts, [0, 100_000]);
}

#[test]
fn a_server_that_refuses_or_mistakes_the_range_is_asked_for_everything() {
    for answers in [
        &[break_off as Answer, refuse_range, everything][..],
        &[break_off, rest_of_another_range, everything],
    ] {
        let (outcome, starts, _folder) = run(answers);
        assert_whole(outcome);
        assert_eq!(starts, [0, 100_000, 0]);
    }
}

#[test]
fn a_wrong_file_is_removed_and_its_checksum_told() {
    let (outcome, _, folder) = run(&[wrong_file]);
    let message = outcome.expect_err("wrong");
    assert!(
        message.contains("MD5") && message.contains(&md5_of(&content())),
        "{message}"
    );
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
}

#[test]
fn a_file_of_another_length_is_refused_before_it_is_read() {
    let (outcome, _, folder) = run(&[claims_another_length]);
    let message = outcome.expect_err("wrong");
    assert!(
        message.contains("has a file of 1234 bytes, expected 300000"),
        "{message}"
    );
    assert!(!folder.path().join("file.zip").exists());
    let (outcome, _, _folder) = run(&[claims_nothing_and_sends_too_much]);
    assert!(
        outcome
            .expect_err("wrong")
            .contains("longer than the expected 300000 bytes")
    );
}

#[test]
fn a_missing_file_is_not_asked_for_again_but_an_overloaded_server_is() {
    let (outcome, starts, _folder) = run(&[not_found]);
    assert!(outcome.expect_err("missing").contains("404 Not Found"));
    assert_eq!(starts, [0]);
    let (outcome, starts, _folder) = run(&[overloaded, overloaded, everything]);
    assert_whole(outcome);
    assert_eq!(starts.len(), 3);
}

#[test]
fn without_a_network_one_line_tells_how_to_place_the_file_by_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    // A port that was free a moment ago and that nobody listens to.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let url = format!("http://{}/file.zip", free.expect("an address"));
    let message = fetch_from(&url, folder.path(), &Silent).expect_err("no server");
    assert!(!message.contains('\n'), "{message}");
    let by_hand = format!(
        "fetch file.zip from https://example.org/page by hand and put it into {}",
        folder.path().display()
    );
    assert!(message.contains(&by_hand), "{message}");
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
}

#[test]
fn only_one_process_downloads_a_file_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = File::create(folder.path().join("file.zip.part")).expect("creates");
    part.lock().expect("locks");
    let message = fetch_from("http://127.0.0.1:1/", folder.path(), &Silent).expect_err("locked");
    assert!(
        message.contains("another process is downloading it"),
        "{message}"
    );
}

#[test]
fn progress_ends_at_the_whole_length_however_often_it_breaks() {
    #[derive(Default)]
    struct Sum(AtomicU64);
    impl Progress for Sum {
        fn begin(&self, _: &str, total: u64, unit: Unit) {
            assert_eq!((total, unit), (LEN as u64, Unit::Bytes));
        }
        fn advance(&self, amount: u64) {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
        fn finish(&self) {}
        fn note(&self, _: &str) {}
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (url, server) = serve(&[break_off, everything]);
    let sum = Sum::default();
    assert_whole(fetch_from(&url, folder.path(), &sum));
    server.join().expect("serves");
    assert_eq!(sum.0.into_inner(), LEN as u64);
}
