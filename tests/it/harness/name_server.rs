//! A name server for tests of the real resolver: it answers from a list, or badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// How the name server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers with these records: names, and the strings of each.
    Knows(Vec<(String, Vec<String>)>),
    /// Says of every name that it does not exist.
    KnowsNothing,
    /// Says of every name that it exists and has no such record.
    HasNoSuchRecord,
    /// Says that it failed.
    Fails,
    /// Says that it answers nobody like us.
    Refuses,
    /// Answers what is no answer.
    Babbles,
    /// Says nothing.
    KeepsSilent,
}

/// A name server on a port of its own, until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn start(manner: Manner) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let (manner, asked) = (Arc::new(Mutex::new(manner)), Arc::default());
        let task = tokio::spawn(serve(socket, Arc::clone(&manner), Arc::clone(&asked)));
        Self { address, manner, asked, task }
    }

    /// From now on it behaves so.
    pub(crate) fn turns(&self, manner: Manner) {
        *self.manner.lock().expect("a manner") = manner;
    }

    /// The names that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("names").clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, manner: Arc<Mutex<Manner>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        let query = question.queries[0].clone();
        let name = query.name().to_ascii().trim_end_matches('.').to_owned();
        asked.lock().expect("names").push(format!("{name} {}", query.query_type()));
        let manner = manner.lock().expect("a manner").clone();
        let mut response = Message::response(question.metadata.id, question.metadata.op_code);
        response.metadata.recursion_available = true;
        response.add_query(query.clone());
        match manner {
            Manner::Knows(records) => {
                for (_, strings) in records.into_iter().filter(|(known, _)| *known == name) {
                    response.add_answer(Record::from_rdata(query.name().clone(), 3600, RData::TXT(TXT::new(strings))));
                }
            }
            Manner::KnowsNothing => response.metadata.response_code = ResponseCode::NXDomain,
            Manner::HasNoSuchRecord => {}
            Manner::Fails => response.metadata.response_code = ResponseCode::ServFail,
            Manner::Refuses => response.metadata.response_code = ResponseCode::Refused,
            Manner::Babbles => {
                socket.send_to(b"hello", from).await.expect("said");
                continue;
            }
            Manner::KeepsSilent => continue,
        }
        socket.send_to(&response.to_vec().expect("an answer"), from).await.expect("answered");
    }
}
