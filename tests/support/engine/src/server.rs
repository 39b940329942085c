//! A plain HTTP server that records what really leaves: request lines, headers, and the number of requests at once.

use std::io::{BufRead, BufReader, Read, Write, copy, sink};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that answers each request with a number of bytes after a time, and keeps the requests.
#[derive(Debug)]
pub struct Server {
    port: u16,
    answer: Arc<Answer>,
}

#[derive(Debug)]
struct Answer {
    bytes: usize,
    after: Duration,
    heard: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start(bytes: usize, after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let answer = Arc::new(Answer {
            bytes,
            after,
            heard: Mutex::default(),
            now: Default::default(),
            most: Default::default(),
        });
        let server = Self { port, answer: answer.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = answer.clone();
                std::thread::spawn(move || answer.serve(&stream));
            }
        });
        server
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The head of each request so far.
    ///
    /// # Panics
    /// When one of its own threads has panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.answer.heard.lock().expect("nobody panics while holding it").clone()
    }

    /// The largest number of requests at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.answer.most.load(Ordering::SeqCst)
    }
}

impl Answer {
    /// Answers the requests of one connection.
    fn serve(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let body =
                head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if copy(&mut reader.by_ref().take(body.unwrap_or(0)), &mut sink()).is_err() {
                return;
            }
            self.heard.lock().expect("nobody panics while holding it").push(head);
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(self.after);
            self.now.fetch_sub(1, Ordering::SeqCst);
            let said = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", self.bytes);
            if said.and_then(|()| stream.write_all(&vec![b'a'; self.bytes])).is_err() {
                return;
            }
        }
    }
}
